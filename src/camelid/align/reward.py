"""Reward models: the ranking loss on answers to one prompt (InstructGPT, arXiv:2203.02155, section 3.4)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from camelid.align.comparisons import Candidates
from camelid.data.rows.batches import AnyBatch
from camelid.data.rows.examples import Example
from camelid.data.rows.packing import Row, best_fit_decreasing, digest_of, lay_out, shuffled
from camelid.data.rows.shared_prompts import shared_lengths
from camelid.model.reward import values
from camelid.model.transformer import Transformer
from camelid.recipes.align import RewardSettings
from camelid.train.fit import Formula
from camelid.train.loop import Objective
from camelid.train.objectives import read_out

BETTER, WORSE, MARGIN, SHARE = "better", "worse", "margin", "share"
"""Columns [rows, pairs] of a batch: where the two answers of a pair end in the row, how much better the first
is rated, and the pair's weight, 1 / C(K, 2) if all K answers of a prompt differ; 0 for padding."""


def ranking_losses(
    better: Float[Tensor, "*pairs"],
    worse: Float[Tensor, "*pairs"],
    margin: Float[Tensor, "*pairs"],
    settings: RewardSettings,
) -> Float[Tensor, "*pairs"]:
    """-log s(r_w - r_l - a m) + c (r_w + r_l)^2 of the rewards of the better and the worse answer.

    Equation 1 of InstructGPT; with a margin equation 2 of LLaMA 2 (arXiv:2307.09288), m from the ratings of
    the answers; the second term, which centres rewards, from Eisenstein et al. (arXiv:2312.09244).
    """
    ranking = -F.logsigmoid(better - worse - settings.margin * margin)
    return ranking + settings.centring * (better + worse).square()


def ranking_loss(settings: RewardSettings) -> Formula[Transformer]:
    """Makes the objective: the pairs of a prompt weigh 1 together, and each answer is computed once."""

    def formula(model: Transformer, dtype: torch.dtype, z_loss: float) -> Objective:
        def summed_loss(batch: AnyBatch) -> Tensor:
            def loss(hidden: Tensor, weight: Tensor) -> Tensor:
                rewards = values(hidden, weight)
                better, worse = (rewards.gather(1, batch.extra[name]) for name in (BETTER, WORSE))
                losses = ranking_losses(better, worse, batch.extra[MARGIN], settings)
                return (batch.extra[SHARE] * losses).sum()

            return read_out(model, batch, loss, dtype)

        return summed_loss

    return formula


class PackedCandidates:
    """The answers to whole prompts packed into rows by best-fit decreasing, in a new seeded order each
    epoch."""

    def __init__(self, candidates: Sequence[Candidates], context: int, seed: int, pad_id: int) -> None:
        self.context, self._candidates, self._pad_id = context, candidates, pad_id
        self._bins = best_fit_decreasing([each.length for each in candidates], context)
        self.per_epoch = len(self._bins)
        self._width = max(sum(len(candidates[at].pairs) for at in members) for members in self._bins)
        content = ((each.pairs, [one.tokens.tobytes() for one in each.examples]) for each in candidates)
        self.digest = digest_of("candidates with one prompt", context, seed, *content)
        self._order = lru_cache(maxsize=2)(lambda epoch: shuffled(len(self._bins), seed, epoch))

    def __getitem__(self, index: int) -> Row:
        epoch, row = divmod(index, self.per_epoch)
        prompts = [self._candidates[at] for at in self._bins[int(self._order(epoch)[row])]]
        pieces = [rated_at_end(one, len(each.examples)) for each in prompts for one in each.examples]
        shared = [length for each in prompts for length in shared_lengths(each.examples)]
        ends = np.cumsum([len(piece) - before for piece, before in zip(pieces, shared, strict=True)]) - 1
        laid_out = lay_out(pieces, self.context, self._pad_id, shared)
        return replace(laid_out, extra=self._pairs(prompts, ends))

    def _pairs(
        self, prompts: Sequence[Candidates], ends: NDArray[np.int64]
    ) -> dict[str, NDArray[np.generic]]:
        places = {name: np.zeros(self._width, dtype=np.int64) for name in (BETTER, WORSE)}
        numbers = {name: np.zeros(self._width, dtype=np.float32) for name in (MARGIN, SHARE)}
        first = at = 0
        for each in prompts:
            for pair in each.pairs:
                places[BETTER][at], places[WORSE][at] = ends[first + pair.better], ends[first + pair.worse]
                numbers[MARGIN][at], numbers[SHARE][at] = pair.margin, 1 / len(each.pairs)
                at += 1
            first += len(each.examples)
        return {**places, **numbers}


def rated_at_end(example: Example, answers: int) -> Example:
    """The whole conversation, of whose tokens the last one is weighed: the answers to a prompt weigh 1."""
    tokens = whole_text(example)
    weights = np.zeros(len(tokens), dtype=np.float32)
    weights[-1] = 1 / answers
    return Example(tokens, np.zeros_like(tokens), weights)


def whole_text(example: Example) -> NDArray[np.integer]:
    """All tokens of an example, the last target included."""
    return np.append(example.tokens, example.targets[-1])
