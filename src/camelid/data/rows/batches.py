"""Batches for training steps, and each process's slice of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
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

Extra = Mapping[str, Tensor]
"""Extra columns for some objectives, such as old log-probabilities [batch, time], advantages [batch]."""


class _Columns:
    """Tensors whose first axis is the batch, and extra ones by name."""

    tokens: Tensor
    extra: Extra

    def to(self, device: torch.device | str) -> Self:
        """The same batch on `device`."""
        return self._map(lambda column: column.to(device, non_blocking=True))

    def split(self, size: int) -> list[Self]:
        """The batch in micro-batches of at most `size` rows."""
        starts = range(0, len(self.tokens), size)
        return [self._map(lambda column, at=start: column[at : at + size]) for start in starts]  # type: ignore[misc]

    def take(self, chosen: Int[Tensor, " rows"]) -> Self:
        """The chosen rows, in this order."""
        return self._map(lambda column: column[chosen])

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        columns = {
            column.name: change(value)
            for column in fields(self)  # type: ignore[arg-type]
            if column.name != "extra" and (value := getattr(self, column.name)) is not None
        }
        extra = {name: change(column) for name, column in self.extra.items()}
        return replace(self, **columns, extra=extra)  # type: ignore[type-var]


@dataclass(frozen=True)
class Batch(_Columns):
    """Rows side by side.

    `documents` numbers the pieces within each row, `positions` restarts in each piece, and `weights` is the
    loss weight of each target (0 on padding and untrained tokens). `extra` holds further columns for an
    objective, by name. `shared`: how many tokens a piece leaves out, see `Row`.
    """

    tokens: Int[Tensor, "batch time"]
    targets: Int[Tensor, "batch time"]
    weights: Float[Tensor, "batch time"]
    documents: Int[Tensor, "batch time"]
    positions: Int[Tensor, "batch time"]
    extra: Extra = field(default_factory=dict)
    shared: Int[Tensor, "batch time"] | None = None

    @property
    def read_tokens(self) -> int:
        """Tokens that the model reads, padding included."""
        return self.tokens.numel()

    def trimmed(self) -> Self:
        """Without what follows the last trained token of every row, on which no earlier one depends."""
        width = int(self.weights.any(0).nonzero().max()) + 1
        return self._map(lambda column: column[:, :width] if column.ndim > 1 else column)


@dataclass(frozen=True)
class PairBatch(_Columns):
    """Pairs side by side, for encoder-decoders.

    The encoder reads `source` where `source_mask` is true; the decoder reads `tokens`, its targets shifted
    right after a start token. `weights` is 0 on the padding.
    """

    source: Int[Tensor, "batch source_time"]
    source_mask: Bool[Tensor, "batch source_time"]
    tokens: Int[Tensor, "batch time"]
    targets: Int[Tensor, "batch time"]
    weights: Float[Tensor, "batch time"]
    extra: Extra = field(default_factory=dict)

    @property
    def read_tokens(self) -> int:
        """Tokens that encoder and decoder read, padding included."""
        return self.source.numel() + self.tokens.numel()


AnyBatch = Batch | PairBatch


def batches(
    rows: Rows | PairRows, batch_size: int, start_step: int = 0, rank: int = 0, world: int = 1
) -> Iterator[AnyBatch]:
    """Batches from `start_step` on, an infinite iterator.

    Step s takes the rows [s * batch_size, (s + 1) * batch_size); process `rank` of `world` gets its
    contiguous slice of them, so all processes together see what a single one would.
    Raises `WrongCall` if `world` does not divide `batch_size`.
    """
    if batch_size < 1 or batch_size % world:
        raise WrongCall(f"batch_size is {batch_size}; it must be a multiple of the {world} processes")
    share = batch_size // world
    for step in count(start_step):
        first = step * batch_size + rank * share
        yield collate([rows[index] for index in range(first, first + share)])


def collate(rows: Sequence[Row | Pair]) -> AnyBatch:
    """Rows stacked into one batch; pairs are padded to their longest source and longest target.

    Extra columns are stacked or padded like the others. Raises `WrongCall` if the rows have different column
    names, or only some say what their pieces leave out.
    """
    names = set(rows[0].extra)
    if odd := [row for row in rows if set(row.extra) != names]:
        raise WrongCall(
            f"rows of one batch have the extra columns {sorted(names)} and {sorted(odd[0].extra)}; "
            "they must be the same"
        )
    pairs = [row for row in rows if isinstance(row, Pair)]
    if not pairs:
        plain = [row for row in rows if isinstance(row, Row)]
        shared = [row.shared for row in plain if row.shared is not None]
        if shared and len(shared) != len(plain):
            raise WrongCall(
                f"{len(shared)} of {len(plain)} rows of one batch say what their pieces leave out; all must, "
                "with 0 for nothing"
            )
        return Batch(
            tokens=_stacked([row.tokens for row in plain]),
            targets=_stacked([row.targets for row in plain]),
            weights=_stacked([row.weights for row in plain]),
            documents=_stacked([row.documents for row in plain]),
            positions=_stacked([row.positions for row in plain]),
            extra={name: _stacked([row.extra[name] for row in plain]) for name in sorted(names)},
            shared=_stacked(shared) if shared else None,
        )
    return PairBatch(
        source=_padded([pair.source for pair in pairs]),
        source_mask=_padded([np.ones(len(pair.source), dtype=np.bool_) for pair in pairs]),
        tokens=_padded([pair.tokens for pair in pairs]),
        targets=_padded([pair.targets for pair in pairs]),
        weights=_padded([pair.weights for pair in pairs]),
        extra={name: _padded([pair.extra[name] for pair in pairs]) for name in sorted(names)},
    )


def _stacked(columns: Sequence[NDArray[np.generic]]) -> Tensor:
    return torch.from_numpy(np.stack(columns))


def _padded(columns: Sequence[NDArray[np.generic]]) -> Tensor:
    """Arrays [time] stacked, padded with 0 (excluded by mask and weights); scalars need no padding."""
    length = max((len(column) for column in columns if column.ndim), default=0)
    return _stacked(
        [np.pad(column, (0, length - len(column))) if column.ndim else column for column in columns]
    )
