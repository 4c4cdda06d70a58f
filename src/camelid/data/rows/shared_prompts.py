"""Several answers to one prompt in a row: the prompt is computed once, and every answer attends to it.

The results are those of rows with a copy of the prompt for each answer, up to rounding; see
`camelid.model.attention.shared_keys`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from camelid.data.rows.batches import Batch
from camelid.data.rows.examples import Example

LONGEST_ROW = 512
"""Tokens after which a prompt is computed again: every answer's attention passes over those before it."""


def shared_lengths(pieces: Sequence[Example]) -> list[int]:
    """How many of its first tokens each piece has in common with the first piece; 0 for that one.

    A piece keeps all that is trained, and the token before it.
    """
    return [_common(pieces[0], piece) if number else 0 for number, piece in enumerate(pieces)]


def _prompt(piece: Example) -> int:
    """How many tokens come before the one after which the first trained target follows."""
    return int(np.argmax(piece.weights > 0))


def _common(one: Example, other: Example) -> int:
    most = min(_prompt(one), _prompt(other))
    differs = np.flatnonzero(one.tokens[:most] != other.tokens[:most])
    return int(differs[0]) if len(differs) else most


@dataclass(frozen=True)
class Joined:
    """A batch of one answer a row with equal prompts once, and where each token is and was."""

    batch: Batch
    now: tuple[Tensor, Tensor]
    """Row and column in `batch`."""
    before: tuple[Tensor, Tensor]
    """Row and column in the batch of one answer a row."""

    def apart(self, column: Tensor, like: Tensor) -> Tensor:
        """A column of `batch` as one of the batch of one answer a row, shaped `like` its; 0 elsewhere."""
        return torch.zeros_like(like, dtype=column.dtype).index_put(self.before, column.cpu()[self.now])


def joined(batch: Batch, *, single: bool | None = None) -> Joined:
    """The answers one after the other, without what follows them; equal prompts occur once if their rows
    follow each other.

    single: in a single row without padding, by default on a CPU, where attention skips other documents. Else
    each prompt that is computed begins a row.
    """
    device, batch = batch.tokens.device, batch.to("cpu")
    single = device.type == "cpu" if single is None else single
    pieces = _pieces(batch)
    shared = torch.tensor(_shared_in_turn(pieces))
    lengths = torch.tensor([len(piece) for piece in pieces]) - shared
    answers = torch.arange(len(pieces)).repeat_interleave(lengths)
    ends = lengths.cumsum(0)
    columns = torch.arange(int(ends[-1])) - (ends - lengths - shared)[answers]  # of one answer a row
    of_answer = torch.zeros_like(shared) if single else (shared == 0).cumsum(0) - 1
    rows = of_answer[answers]
    tokens = rows.bincount()
    firsts = tokens.cumsum(0) - tokens
    now, before = (rows, torch.arange(len(rows)) - firsts[rows]), (answers, columns)
    size = (len(tokens), int(tokens.max()))

    def placed(values: Tensor, padding: float = 0) -> Tensor:
        return torch.full(size, padding, dtype=values.dtype).index_put(now, values)

    laid_out = Batch(
        placed(batch.tokens[before]),
        placed(batch.targets[before]),
        placed(batch.weights[before]),
        documents=placed(answers, -1),
        positions=placed(columns),
        extra={
            name: placed(column[before]) if column.ndim > 1 else column[: len(tokens)]
            for name, column in batch.extra.items()
        },
        shared=placed(shared[answers]) if shared.any() else None,
    )
    return Joined(laid_out.to(device), now, before)


def _pieces(batch: Batch) -> list[Example]:
    """The rows up to their last trained tokens."""
    tokens, targets, weights = (column.numpy() for column in (batch.tokens, batch.targets, batch.weights))
    ends = weights.shape[1] - (weights > 0)[:, ::-1].argmax(1)
    return [
        Example(tokens[row, :end], targets[row, :end], weights[row, :end]) for row, end in enumerate(ends)
    ]


def _shared_in_turn(pieces: Sequence[Example]) -> list[int]:
    """How many tokens each piece leaves out: those that it has in common with the last one that leaves out
    none, unless the row would grow too long."""
    shared, root, length = [0], pieces[0], len(pieces[0])
    for piece in pieces[1:]:
        before = shared_lengths([root, piece])[1]
        if not before or length + len(piece) - before > LONGEST_ROW:
            root, before, length = piece, 0, 0
        shared.append(before)
        length += len(piece) - before
    return shared
