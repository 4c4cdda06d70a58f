"""Batches for a training step, and for each process its part of them."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from camelid.data.packing import Row, Rows
from camelid.errors import WrongCall


@dataclass(frozen=True)
class Batch:
    """Rows side by side.

    `documents` numbers the pieces within each row, `positions` restarts in each piece, and `weights` says
    how much the prediction of each target counts (0 on padding and on what is not trained).
    """

    tokens: Int[Tensor, "batch time"]
    targets: Int[Tensor, "batch time"]
    weights: Float[Tensor, "batch time"]
    documents: Int[Tensor, "batch time"]
    positions: Int[Tensor, "batch time"]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on `device`."""
        return Batch(*(getattr(self, name.name).to(device, non_blocking=True) for name in fields(self)))

    def split(self, size: int) -> list["Batch"]:
        """The batch in micro-batches of at most `size` rows."""
        columns = [getattr(self, name.name).split(size) for name in fields(self)]
        return [Batch(*parts) for parts in zip(*columns, strict=True)]


def batches(
    rows: Rows, batch_size: int, start_step: int = 0, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """Batches from `start_step` on, without end.

    Step s takes the rows [s * batch_size, (s + 1) * batch_size); process `rank` of `world` gets its
    contiguous slice of them, so the processes together see what one alone would.
    Raises `WrongCall` where `world` does not divide `batch_size`.
    """
    if batch_size < 1 or batch_size % world:
        raise WrongCall(f"batch_size is {batch_size}; it must be a multiple of the {world} processes")
    share = batch_size // world
    step = start_step
    while True:
        first = step * batch_size + rank * share
        yield collate([rows[index] for index in range(first, first + share)])
        step += 1


def collate(rows: list[Row]) -> Batch:
    """Rows stacked into one batch."""
    return Batch(
        *(torch.from_numpy(np.stack([getattr(row, name.name) for row in rows])) for name in fields(Batch))
    )
