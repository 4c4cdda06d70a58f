"""Data-parallel training over processes; a single process is a group of one."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from camelid.base.logs import show_warnings_only
from camelid.model.attention import leave_out_cudnn

T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""How long processes wait for what only the main one does: it tokenises a large corpus for hours, and torch
would give up after 10 or 30 minutes. A process that ends is noticed at once, by its connections.
"""


@dataclass(frozen=True)
class ProcessGroup:
    """This process's rank among torchrun's processes (RANK, WORLD_SIZE), its device, and the collectives.

    Data parallelism: every process has all weights, and the gradients of its own rows. All processes must
    call the methods in the same order.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    patient: dist.ProcessGroup | None = None
    """The same processes with the timeout `PATIENCE`, for `broadcast` and `barrier`."""

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def broadcast(self, value: T) -> T:
        """The main process's `value`, in every process, however long it takes."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.patient)
        return box[0]

    def any_rank(self, flag: bool) -> bool:
        """Whether `flag` is true in any process; all processes get the same answer."""
        return bool(self.sum(torch.tensor(float(flag))) > 0)

    def barrier(self) -> None:
        """Waits until every process has reached this call, however long it takes."""
        if self.size > 1:
            dist.barrier(group=self.patient)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sums every gradient over all processes, in place."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for work in [dist.all_reduce(gradient, async_op=True) for gradient in gradients]:
            assert work is not None  # None only outside of the group
            work.wait()

    def clip_gradients(self, parameters: Iterable[nn.Parameter], limit: float) -> float:
        """Clips the reduced gradients to norm `limit` (0: no limit); returns the norm before."""
        return float(nn.utils.clip_grad_norm_(parameters, limit or math.inf))

    def gather(self, tensor: Tensor) -> Tensor:
        """The full tensor of a weight or moment that may be sharded, for the main process to save."""
        return tensor


def join_process_group() -> ProcessGroup:
    """The process group of the environment; initialises torch.distributed if there are several processes."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        leave_out_cudnn()
    if size == 1:
        return ProcessGroup(device=device)
    if int(os.environ.get("RANK", "0")) > 0:
        show_warnings_only()
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # Counts and losses are summed on the CPU, which NCCL does not support.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    patient = dist.new_group(backend="gloo", timeout=PATIENCE)
    return ProcessGroup(dist.get_rank(), size, device, patient)
