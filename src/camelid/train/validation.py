"""The loss of a model on held-out rows."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from camelid.base.cores import share_cores
from camelid.base.errors import CamelidError
from camelid.data.rows.batches import in_order
from camelid.data.rows.packing import Rows
from camelid.data.rows.pairs import PairRows
from camelid.model.transformer import Transformer
from camelid.train.objectives import cross_entropy


@dataclass(frozen=True)
class ValidationLoss:
    """Mean loss over the validation rows: nats per trained token, and bits per byte of their text."""

    nats_per_token: float
    bits_per_byte: float

    @property
    def measures(self) -> dict[str, float]:
        """The values by the names that logs give them."""
        return {"loss": self.nats_per_token, "bits_per_byte": self.bits_per_byte}


@torch.no_grad()
def validation_loss(
    model: Transformer,
    rows: Rows | PairRows,
    token_bytes: NDArray[np.int64],
    dtype: torch.dtype,
    micro_batch_size: int = 8,
    device: torch.device | str = "cpu",
) -> ValidationLoss:
    """Loss over one epoch of rows, weighted as in training; raises `CamelidError` if all weights are 0."""
    was_training = model.training
    model.eval()
    objective = cross_entropy(model, dtype)
    sizes = torch.from_numpy(token_bytes)
    nats, tokens, size = 0.0, 0.0, 0.0
    for batch in share_cores(in_order(rows, micro_batch_size)):
        nats += float(objective(batch.to(device)))
        tokens += float(batch.weights.sum())
        size += float((sizes[batch.targets] * batch.weights).sum())
    model.train(was_training)
    if tokens == 0:
        raise CamelidError("the validation rows have no trained token; check them with `camelid check`")
    return ValidationLoss(nats / tokens, nats / math.log(2) / max(size, 1.0))
