"""Checkpoints that are written while training goes on."""

import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from camelid.base.digest import digest_file
from camelid.base.errors import CamelidError
from camelid.base.memory import free_memory
from camelid.model.transformer import Transformer
from camelid.runs.run import CHECKPOINTS, Run
from camelid.train.parallel import NotAnswered, ProcessGroup
from camelid.train.sharding import local
from camelid.train.state import TrainingState, save_state, training_state

logger = logging.getLogger(__name__)

ROOM = 0.5
"""The share of the free memory that a copy of the state may take."""
PART = "shard-{:05}-*.safetensors"
"""The files that torch writes in one of several processes, which it counts from 1."""


class Saver:
    """Saves the state of a run in a thread, from a copy in the CPU's memory; a context manager.

    All processes must call the methods in the same order. One state is written at a time. Where there is no
    room for the copy, training waits instead. If a state cannot be written, `failed` says so soon, and
    `finish` raises `CamelidError` in all processes; the checkpoint before it stays valid. Where not every
    process answers, it raises `NotAnswered`, of which `ProcessGroup.answering` says which are lost.
    """

    def __init__(
        self, run: Run, model: Transformer, optimizer: torch.optim.Optimizer, group: ProcessGroup, keep: int
    ) -> None:
        self._run, self._model, self._optimizer, self._keep = run, model, optimizer, keep
        self._group = replace(group, patient=group.saving)  # another thread needs a group of its own
        self._thread: Thread | None = None
        self._reasons: list[str] = []
        self._unanswered: RuntimeError | None = None
        self._step = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Where a process is lost, torch raises a RuntimeError, and the others may never answer the thread.
        lost = self._group.size > 1 and isinstance(error, RuntimeError)
        if self._thread is not None and not lost:
            self._thread.join()
            for reason in self._reasons:
                logger.warning(reason)

    @property
    def failed(self) -> bool:
        """Whether the state that is being written, or was written last, could not be."""
        return bool(self._reasons)

    def save(self, step: int) -> None:
        """Saves the state after `step` updates, once the one before it is written."""
        self.finish()
        state, self._step = training_state(self._model, self._optimizer, step), step
        if size_of(state) * int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > ROOM * free_memory():
            self._write(state)
            self.finish()
            return
        self._thread = Thread(target=self._write, args=(copied(state),), daemon=True, name=f"step-{step}")
        self._thread.start()

    def finish(self) -> None:
        """Waits until the last state is written; raises an error if it could not be, see the class."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._reasons:
            reasons, self._reasons = self._reasons, []
            lost = (
                f"{self._run.folder / CHECKPOINTS}: the state after step {self._step} could not be saved "
                f"({'; '.join(reasons)}). The checkpoint before it is kept; mend this, and the same command "
                "resumes the run from there"
            )
            if self._unanswered is not None:
                raise NotAnswered(lost) from self._unanswered
            raise CamelidError(lost)

    def _write(self, state: TrainingState) -> None:
        """Writes the state; every process learns what went wrong in any."""
        reason, shared = "", False

        def write(folder: Path) -> Mapping[str, str]:
            nonlocal shared
            shared = True
            return self._write_together(self._group.broadcast(folder), state)

        try:
            if self._group.is_main:
                self._run.save_checkpoint(state.step, write, keep=self._keep)
            elif (folder := self._group.broadcast(None)) is not None:
                self._write_together(folder, state)
        except Exception as error:
            reason = str(error) or type(error).__name__
        try:
            if reason and self._group.is_main and not shared:
                self._group.broadcast(None)
            self._reasons = [*dict.fromkeys(filter(None, self._group.collect(reason)))]
        except RuntimeError as error:
            # Another process has ended, which the next update may name first; or it did not answer in time.
            self._reasons, self._unanswered = [f"not every process answered: {error}"], error

    def _write_together(self, folder: Path, state: TrainingState) -> Mapping[str, str]:
        """Writes this process's part into the main one's folder; the digests of all parts, by their names.

        Raises `CamelidError` in every process if any does not see the folder: torch would make another one of
        the same name there, and the checkpoint would lack that part.
        """
        group = self._group
        hosts = {host for host in group.collect("" if folder.is_dir() else socket.gethostname()) if host}
        if hosts:
            raise CamelidError(
                f"{folder.parent} is not the same folder on {', '.join(sorted(hosts))}: all nodes must see "
                "the same --out; give one on a file system that they share"
            )
        own: dict[str, str] = {}
        try:
            save_state(folder, state, group)
            with suppress(OSError):  # the main process computes what is missing, or says why it cannot
                own = {path.name: digest_file(path) for path in folder.glob(PART.format(group.rank + 1))}
        finally:  # the others wait for it, also where this failed
            parts = group.collect(own)
        return {name: digest for part in parts for name, digest in part.items()}


def copied(state: TrainingState) -> TrainingState:
    """The state in memory of its own, on the CPU."""

    def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}

    return TrainingState(copies(state.weights), copies(state.moments), state.step)


def size_of(state: TrainingState) -> int:
    """Bytes of this process's part of a state."""
    return sum(local(each).nbytes for each in (*state.weights.values(), *state.moments.values()))
