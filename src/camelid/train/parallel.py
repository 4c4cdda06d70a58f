"""Data parallelism over torchrun's processes; a single process is the same code with a world of one."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from camelid.model.attention import leave_out_cudnn

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process's place among those that torchrun started (RANK, WORLD_SIZE), and its device."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0


def join_world() -> World:
    """The world that the environment describes; joins torchrun's process group where there is one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        leave_out_cudnn()
    if size == 1:
        return World(device=device)
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # Counts and losses are summed on the CPU, which NCCL does not know.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return World(dist.get_rank(), size, device)


def sum_over_world(world: World, tensors: Iterable[Tensor]) -> None:
    """Adds every tensor up over all processes, in place, as one message."""
    tensors = list(tensors)
    if world.size == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def from_main(world: World, value: T) -> T:
    """The main process's `value`, in every process."""
    if world.size == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def wished_anywhere(world: World, wish: bool) -> bool:
    """Whether any process wishes it: the same answer in every process."""
    wishes = torch.tensor([float(wish)])
    sum_over_world(world, [wishes])
    return bool(wishes > 0)


def wait_for_all(world: World) -> None:
    """Returns when every process has come here."""
    if world.size > 1:
        dist.barrier()
