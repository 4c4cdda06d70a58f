"""Objectives: losses of a model on a batch."""

import torch
from torch import Tensor

from camelid.data.rows.batches import AnyBatch, PairBatch
from camelid.model.layers import Readout
from camelid.model.transformer import Transformer
from camelid.train.loop import DROPOUT_SEEDS, Objective
from camelid.train.losses import chunked_cross_entropy


def read_out(
    model: Transformer, batch: AnyBatch, readout: Readout, dtype: torch.dtype | None = None
) -> Tensor:
    """The readout of the model's hidden states on a batch, such as a loss; dtype: of the activations."""
    seeds = batch.extra.get(DROPOUT_SEEDS)
    result: Tensor
    if isinstance(batch, PairBatch):
        result = model(
            batch.source,
            batch.tokens,
            mask=batch.source_mask,
            dtype=dtype,
            output=readout,
            dropout_seeds=seeds,
        )
    else:
        result = model(
            batch.tokens,
            positions=batch.positions,
            documents=batch.documents,
            shared=batch.shared,
            dtype=dtype,
            output=readout,
            dropout_seeds=seeds,
        )
    return result


def cross_entropy(model: Transformer, dtype: torch.dtype | None = None, z_loss: float = 0.0) -> Objective:
    """The summed, weighted negative log-likelihood of the targets, for pretraining, tuning and denoising.

    sum_i w_i (-log p(y_i | x_<i) + z_loss log^2 Z_i), PaLM (arXiv:2204.02311, section 5) for the second term.
    """

    def summed_loss(batch: AnyBatch) -> Tensor:
        def loss(hidden: Tensor, weight: Tensor) -> Tensor:
            return chunked_cross_entropy(hidden, weight, batch.targets, batch.weights, z_loss)

        return read_out(model, batch, loss, dtype)

    return summed_loss
