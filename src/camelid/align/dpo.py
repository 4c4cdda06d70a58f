"""DPO: a policy from comparisons, without a reward model (Rafailov et al. 2023, arXiv:2305.18290)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from camelid.align.columns import REFERENCE
from camelid.data.rows.batches import AnyBatch, Batch
from camelid.model.transformer import Transformer
from camelid.recipes.align import DPOSettings
from camelid.train.fit import Formula
from camelid.train.loop import Objective
from camelid.train.losses import chunked_logprobs
from camelid.train.objectives import read_out


def dpo_losses(
    chosen: Float[Tensor, " pairs"], rejected: Float[Tensor, " pairs"], settings: DPOSettings
) -> Float[Tensor, " pairs"]:
    """-(1 - e) log s(m) - e log s(-m), m = beta (chosen - rejected): equation 7, with label smoothing e.

    chosen, rejected: log(policy(y | x) / reference(y | x)) of the two answers.
    """
    margin = settings.beta * (chosen - rejected)
    smoothing = settings.label_smoothing
    return -(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin)


def log_ratios(
    logprobs: Float[Tensor, "batch time"], batch: Batch, *, mean: bool = False
) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
    """log(policy / reference) of the better and the worse answer of each pair in the batch.

    Documents 2i and 2i + 1 of a row are a pair; the sum over an answer's tokens, or their mean.
    """
    trained = (batch.weights > 0).float()
    size = (len(batch.tokens), 2 * (int(batch.documents.max()) // 2 + 1))
    empty = torch.zeros(size, device=logprobs.device)
    changes = (logprobs - batch.extra[REFERENCE]) * trained
    sums = empty.scatter_add(1, batch.documents, changes)
    counts = empty.scatter_add(1, batch.documents, trained)
    ratios = sums / counts.clamp(min=1) if mean else sums
    pairs = ratios.view(-1, 2)[counts.view(-1, 2).all(1)]
    return pairs[:, 0], pairs[:, 1]


def dpo(settings: DPOSettings) -> Formula[Transformer]:
    """Makes the objective: the loss summed over the pairs of a batch, whose weights sum to 1 for each."""

    def formula(model: Transformer, dtype: torch.dtype, z_loss: float) -> Objective:
        def summed_loss(batch: AnyBatch) -> Tensor:
            assert isinstance(batch, Batch)  # pairs are rows of a decoder
            batch = batch.trimmed()

            def loss(hidden: Tensor, weight: Tensor) -> Tensor:
                logprobs = chunked_logprobs(hidden, weight, batch.targets, batch.weights > 0)
                ratios = log_ratios(logprobs, batch, mean=settings.length_normalised)
                return dpo_losses(*ratios, settings).sum()

            return read_out(model, batch, loss, dtype)

        return summed_loss

    return formula
