"""Batches for a training step, and for each process its part of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import count
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from camelid.base.errors import WrongCall
from camelid.data.rows.packing import Row, Rows
from camelid.data.rows.pairs import Pair, PairRows


class _Columns:
    """Tensors whose first axis is the row."""

    def to(self, device: torch.device | str) -> Self:
        """The same batch on `device`."""
        return type(self)(*(column.to(device, non_blocking=True) for column in self._columns()))

    def split(self, size: int) -> list[Self]:
        """The batch in micro-batches of at most `size` rows."""
        columns = [torch.split(column, size) for column in self._columns()]
        return [type(self)(*parts) for parts in zip(*columns, strict=True)]

    def _columns(self) -> list[Tensor]:
        return [getattr(self, name.name) for name in fields(self)]  # type: ignore[arg-type]


@dataclass(frozen=True)
class Batch(_Columns):
    """Rows side by side.

    `documents` numbers the pieces within each row, `positions` restarts in each piece, and `weights` says
    how much the prediction of each target counts (0 on padding and on what is not trained).
    """

    tokens: Int[Tensor, "batch time"]
    targets: Int[Tensor, "batch time"]
    weights: Float[Tensor, "batch time"]
    documents: Int[Tensor, "batch time"]
    positions: Int[Tensor, "batch time"]

    @property
    def read_tokens(self) -> int:
        """Tokens that the model reads, padding included."""
        return self.tokens.numel()


@dataclass(frozen=True)
class PairBatch(_Columns):
    """Pairs side by side, for a model with an encoder and a decoder.

    The encoder reads `source` where `source_mask` is true, the decoder `tokens`: its targets one place later,
    after a start token. `weights` is 0 on the padding.
    """

    source: Int[Tensor, "batch source_time"]
    source_mask: Bool[Tensor, "batch source_time"]
    tokens: Int[Tensor, "batch time"]
    targets: Int[Tensor, "batch time"]
    weights: Float[Tensor, "batch time"]

    @property
    def read_tokens(self) -> int:
        """Tokens that encoder and decoder read, padding included."""
        return self.source.numel() + self.tokens.numel()


AnyBatch = Batch | PairBatch


def batches(
    rows: Rows | PairRows, batch_size: int, start_step: int = 0, rank: int = 0, world: int = 1
) -> Iterator[AnyBatch]:
    """Batches from `start_step` on, without end.

    Step s takes the rows [s * batch_size, (s + 1) * batch_size); process `rank` of `world` gets its
    contiguous slice of them, so the processes together see what one alone would.
    Raises `WrongCall` where `world` does not divide `batch_size`.
    """
    if batch_size < 1 or batch_size % world:
        raise WrongCall(f"batch_size is {batch_size}; it must be a multiple of the {world} processes")
    share = batch_size // world
    for step in count(start_step):
        first = step * batch_size + rank * share
        yield collate([rows[index] for index in range(first, first + share)])


def collate(rows: Sequence[Row | Pair]) -> AnyBatch:
    """Rows stacked into one batch, or pairs padded to the longest source and the longest target among them."""
    pairs = [row for row in rows if isinstance(row, Pair)]
    if not pairs:
        columns = ([getattr(row, name.name) for row in rows] for name in fields(Batch))
        return Batch(*(torch.from_numpy(np.stack(column)) for column in columns))
    return PairBatch(
        source=_padded([pair.source for pair in pairs]),
        source_mask=_padded([np.ones(len(pair.source), dtype=np.bool_) for pair in pairs]),
        tokens=_padded([pair.tokens for pair in pairs]),
        targets=_padded([pair.targets for pair in pairs]),
        weights=_padded([pair.weights for pair in pairs]),
    )


def _padded(columns: Sequence[NDArray[np.generic]]) -> Tensor:
    """Arrays [time] under each other, filled up with 0: whatever token that is, mask and weights leave it out."""
    length = max(len(column) for column in columns)
    return torch.from_numpy(np.stack([np.pad(column, (0, length - len(column))) for column in columns]))
