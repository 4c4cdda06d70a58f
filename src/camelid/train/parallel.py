"""The processes of a training run on a mesh of data x tensor; a single process is a mesh of one."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore, Store, _get_default_store, _set_pg_timeout
from torch.nn.utils import get_total_norm

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.logs import show_warnings_only
from camelid.data.rows.batches import Batch, PairBatch
from camelid.model.attention import leave_out_cudnn
from camelid.recipes.parallel import Parallel
from camelid.runs.run import list_checkpoints
from camelid.train.sharding import is_split, local

T = TypeVar("T")
B = TypeVar("B", Batch, PairBatch)

PATIENCE = timedelta(days=30)
"""How long processes wait for what only the main one does: it tokenises a large corpus for hours, and torch
would give up after 10 or 30 minutes. A process that ends is noticed at once, by its connections.
"""
SAVING = 3
"""How many times longer processes wait for each other while they write a state than within an update: each
writes its part and computes its digest, on disks that others use, too.
"""
ANSWER = 10.0
"""Seconds in which every process that still runs says so, once one of them has failed."""
OF_GLOO = ("gloo", "Application timeout caused pair closure")
"""What is in gloo's errors: its own path, or where an operation before has timed out, these words."""
DATA, TENSOR = "data", "tensor"


class NotAnswered(RuntimeError):  # noqa: N818 -- it reads as what happened
    """A process that others waited for too long: it has ended, hangs, or is slow."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process's rank among torchrun's processes (RANK, WORLD_SIZE), its device, and the collectives.

    Processes at the same place of the data dimension compute the same rows together; the others compute other
    rows, and all weights are sharded over them (`train.sharding`). All processes must call the methods in the
    same order.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    mesh: DeviceMesh | None = None
    """The processes as [data, tensor]; None: one process."""
    gathered: torch.dtype | None = None
    """The precision in which weights are gathered; None: their own."""
    patient: dist.ProcessGroup | None = None
    """The same processes with the timeout `PATIENCE`, for `broadcast` and `barrier`."""
    saving: dist.ProcessGroup | None = None
    """The same processes for the thread that saves; see `SAVING`."""
    store: Store | None = None
    """Where each process leaves its host and, after a failure, that it still runs."""

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    @property
    def data_rank(self) -> int:
        """Which share of each update's rows this process computes."""
        return 0 if self.mesh is None else self.mesh.get_local_rank(DATA)

    @property
    def data_size(self) -> int:
        """The number of shares that each update's rows are divided into."""
        return 1 if self.mesh is None else self.mesh.size(0)

    @property
    def tensor_size(self) -> int:
        """The number of processes that share each matrix product."""
        return 1 if self.mesh is None else self.mesh.size(1)

    def broadcast(self, value: T) -> T:
        """The main process's `value`, in every process, however long it takes."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.patient)
        return box[0]

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` returns in the main process, the only one that calls it, in every process."""
        box = self.broadcast([make()] if self.is_main else [])
        return box[0]

    def collect(self, own: T) -> list[T]:
        """Every process's value in the order of their ranks, however long it takes."""
        if self.size == 1:
            return [own]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, own, group=self.patient)
        return found

    def collect_by_rows(self, own: T) -> list[T]:
        """The value of each share of the rows: of processes that share matrices, which have the same, one."""
        return self.collect(own)[:: self.tensor_size]

    def own(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share of items, of which any may compute any; see `together`."""
        return items[self.rank :: self.size]

    def together(self, found: Sequence[T]) -> list[T]:
        """What all processes have found for their `own` items, in the order of these."""
        shares = self.collect([*found])
        places = range(sum(map(len, shares)))
        return [shares[place % self.size][place // self.size] for place in places]

    def share_of(self, batch: B) -> B:
        """This process's rows of a batch that all processes have; raises `WrongCall` if they are uneven."""
        return batch.split(len(self.slice_of(range(len(batch.tokens)))))[self.data_rank]

    def slice_of(self, rows: Sequence[T]) -> Sequence[T]:
        """The same of rows that are not a batch yet."""
        if len(rows) % self.data_size:
            raise WrongCall(f"{self.data_size} processes cannot share {len(rows)} rows equally")
        share = len(rows) // self.data_size
        return rows[self.data_rank * share : (self.data_rank + 1) * share]

    def any_rank(self, *flags: bool) -> list[bool]:
        """Whether each flag is true in any process; all processes get the same answers."""
        return (self._sum_all(torch.tensor(flags, dtype=torch.float32)) > 0).tolist()

    def barrier(self) -> None:
        """Waits until every process has reached this call, however long it takes."""
        if self.size > 1:
            dist.barrier(group=self.patient)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the shares of the rows, in place; the same in every process."""
        if self.mesh is not None:
            dist.all_reduce(tensor, group=self.mesh.get_group(DATA))
        return tensor

    def gradient_norm(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """The norm of the whole gradient; what several processes hold a copy of counts once."""
        given = [each for each in parameters if each.grad is not None]
        if self.mesh is None:
            return get_total_norm([each.grad for each in given if each.grad is not None])
        total = torch.zeros((), dtype=torch.float64)
        for copies, split in ((self.tensor_size, False), (1, True)):
            held = [local(each.grad) for each in given if each.grad is not None and is_split(each) == split]
            total += get_total_norm(held).double().cpu().square() / copies
        return self._sum_all(total).sqrt().float()

    def clip_gradients(self, parameters: Iterable[nn.Parameter], limit: float) -> float:
        """Clips the reduced gradients to norm `limit` (0: no limit); returns the norm before."""
        parameters = list(parameters)
        norm = self.gradient_norm(parameters)
        if limit:
            held = [local(each.grad) for each in parameters if each.grad is not None]
            torch._foreach_mul_(held, (limit / (norm + 1e-6)).clamp(max=1.0).to(held[0].device))
        return float(norm)

    @contextmanager
    def answering(self, run: Path) -> Iterator[None]:
        """Turns torch's error about a process that has ended or hangs into a `CamelidError`.

        It names the process, and the last step saved in the folder `run`.
        """
        try:
            yield
        except RuntimeError as error:
            of_torch = isinstance(error, dist.DistError | NotAnswered)
            of_torch = of_torch or any(words in str(error) for words in OF_GLOO)
            if self.store is None or not of_torch:
                raise
            if not (silent := self._silent(self.store)):
                if isinstance(error, NotAnswered):
                    raise CamelidError(f"{error}; all processes still run: raise parallel.timeout") from error
                raise
            saved = max((checkpoint.step for checkpoint in list_checkpoints(run)), default=0)
            state = f"the state after step {saved} is saved" if saved else "no state is saved yet"
            raise CamelidError(
                f"lost {' and '.join(silent)} of {self.size} processes; {state}. What ended by itself has "
                "said why; else the same command resumes the run, on any number of processes (torch: "
                f"{str(error).splitlines()[0]})"
            ) from error

    def _silent(self, store: Store) -> list[str]:
        """The processes that do not say that they run within `ANSWER` seconds."""
        try:
            store.set(f"runs/{self.rank}", "")
            if self.device.type == "cpu" and dist.is_initialized():
                dist.destroy_process_group()  # those that wait for this process notice, too
            waiting, end = list(range(self.size)), time.monotonic() + ANSWER
            while waiting and time.monotonic() < end:
                time.sleep(0.1)
                waiting = [rank for rank in waiting if not store.check([f"runs/{rank}"])]
            return [f"process {rank} ({store.get(f'host/{rank}').decode()})" for rank in waiting]
        except RuntimeError:  # the process that holds the store has ended
            return ["process 0"]

    def _sum_all(self, tensor: Tensor) -> Tensor:
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor


def join_process_group(parallel: Parallel | None = None) -> ProcessGroup:
    """The process group of the environment; initialises torch.distributed if there are several processes.

    Raises `WrongCall` if there are not as many as the mesh needs.
    """
    parallel = parallel or Parallel()
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    shape = _mesh_shape(parallel, size)
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
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=parallel.timeout))
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)  # slow, not wrong
    store = PrefixStore("camelid", _get_default_store())
    store.set(f"host/{dist.get_rank()}", f"{socket.gethostname()}, pid {os.getpid()}")
    patient = dist.new_group(backend="gloo", timeout=PATIENCE)
    saving = dist.new_group(backend="gloo", timeout=SAVING * timedelta(seconds=parallel.timeout))
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=(DATA, TENSOR))
    for name in (DATA, TENSOR):  # torch gives them its own limit of time
        _set_pg_timeout(timedelta(seconds=parallel.timeout), mesh.get_group(name))
    gathered = torch.bfloat16 if parallel.gather == "bfloat16" else None
    return ProcessGroup(dist.get_rank(), size, device, mesh, gathered, patient, saving, store)


def _mesh_shape(parallel: Parallel, processes: int) -> tuple[int, int]:
    data = parallel.data or max(1, processes // parallel.tensor)
    if data * parallel.tensor != processes:
        raise WrongCall(
            f"the mesh of parallel.data {data} x parallel.tensor {parallel.tensor} needs "
            f"{data * parallel.tensor} processes, but there are {processes}; start as many with torchrun "
            f"--nproc-per-node {data * parallel.tensor}, or give --parallel.tensor a divisor of {processes}"
        )
    return data, parallel.tensor
