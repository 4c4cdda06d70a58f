"""The loss of a model on held-out rows."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from camelid.base.cores import share_cores
from camelid.base.errors import CamelidError
from camelid.data.rows.batches import AnyBatch, collate
from camelid.data.rows.packing import Rows
from camelid.data.rows.pairs import PairRows
from camelid.model.transformer import Transformer
from camelid.train.objectives import cross_entropy
from camelid.train.parallel import ProcessGroup


@dataclass(frozen=True)
class ValidationLoss:
    """Mean loss over the validation rows: nats per trained token, and bits per byte of their text."""

    nats_per_token: float
    bits_per_byte: float

    @property
    def measures(self) -> dict[str, float]:
        """The values by the names that logs give them."""
        return {"loss": self.nats_per_token, "bits_per_byte": self.bits_per_byte}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; its mode is restored afterwards, also after an error."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@torch.no_grad()
def validation_loss(
    model: Transformer,
    rows: Rows | PairRows,
    token_bytes: NDArray[np.int64],
    dtype: torch.dtype,
    micro_batch_size: int = 8,
    group: ProcessGroup | None = None,
) -> ValidationLoss:
    """Loss over one epoch of rows, weighted as in training; raises `CamelidError` if all weights are 0.

    Processes that share the rows of an update share these too, and all get the same result.
    """
    group = group or ProcessGroup()
    objective = cross_entropy(model, dtype)
    sizes = torch.from_numpy(token_bytes)
    sums = torch.zeros(3, dtype=torch.float64)
    with evaluating(model):
        for batch in share_cores(share_of_epoch(rows, micro_batch_size, group)):
            loss = objective(batch.to(group.device))
            size = (sizes[batch.targets] * batch.weights).sum()
            sums += torch.tensor([float(loss), float(batch.weights.sum()), float(size)], dtype=torch.float64)
    nats, tokens, size_of_text = group.sum(sums).tolist()
    if tokens == 0:
        raise CamelidError("the validation rows have no trained token; check them with `camelid check`")
    return ValidationLoss(nats / tokens, nats / math.log(2) / max(size_of_text, 1.0))


def share_of_epoch(rows: Rows | PairRows, size: int, group: ProcessGroup) -> Iterator[AnyBatch]:
    """Every so many-th batch; all processes get as many, the last ones perhaps one whose weights are 0."""
    count = -(-rows.per_epoch // size)
    for number in range(group.data_rank, -(-count // group.data_size) * group.data_size, group.data_size):
        first = min(number, count - 1) * size
        batch = collate([rows[index] for index in range(first, min(first + size, rows.per_epoch))])
        yield batch if number < count else replace(batch, weights=torch.zeros_like(batch.weights))
