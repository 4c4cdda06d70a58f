"""The coordinate check: whether a rule for the learning rate moves hidden states alike at every width."""

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from camelid.model.transformer import Transformer
from camelid.recipes.model_shape import ModelShape
from camelid.recipes.training import OptimizerName
from camelid.train.loop import training_steps
from camelid.train.objectives import cross_entropy
from camelid.train.optim import OPTIMIZERS
from camelid.train.speed import random_batch

STEPS, ROWS, CONTEXT, VOCABULARY = 3, 8, 64, 512
SHARE = 0.1
"""Of the rate: states that have moved about as far as they can would hide the width's effect."""
FLAT = 0.2
"""Largest slope of a rule that passes: over 4 times the width, states move at most 1.32 times as far."""


class Coordinates(NamedTuple):
    """How far the hidden states of each width moved, and the slope of its logarithm against ln width."""

    moved: Mapping[int, float]
    slope: float

    @property
    def passed(self) -> bool:
        """Whether the rule transfers: the states move alike."""
        return abs(self.slope) <= FLAT


def coordinate_check(
    widths: Sequence[int], rate: Callable[[int], float], optimizer: OptimizerName = "muon", seed: int = 0
) -> Coordinates:
    """Trains a model of two layers at each width for `STEPS` updates at `SHARE` of `rate(width)`.

    moved: root mean square over the coordinates of the change of the normalised states before the output
    projection, on the batch trained on (Yang et al. 2022, arXiv:2203.03466, app. D.1). Where it grows with
    the width, wide models need a lower rate, and so the other way round.
    """
    moved = {width: _moved(width, rate(width), optimizer, seed) for width in widths}
    slope = np.polyfit(np.log(list(moved)), np.log(list(moved.values())), 1)[0]
    return Coordinates(moved, float(slope))


def _moved(width: int, rate: float, optimizer: OptimizerName, seed: int) -> float:
    shape = ModelShape(hidden_size=width, num_layers=2, num_heads=max(1, width // 16), context_length=CONTEXT)
    spec = shape.spec(VOCABULARY)
    model = Transformer(spec).initialize(seed)
    batch = random_batch(spec, CONTEXT, ROWS)
    before = _states(model, batch.tokens)
    steps = training_steps(
        model,
        repeat(batch, STEPS),
        cross_entropy(model, torch.float32),
        OPTIMIZERS[optimizer](model.named_parameters(), weight_decay=0.0, betas=(0.9, 0.95), eps=1e-8),
        lambda step: SHARE * rate,
        micro_batch_size=ROWS,
        gradient_clip=1.0,
    )
    for _ in steps:
        pass
    return float((_states(model, batch.tokens) - before).square().mean().sqrt())


@torch.no_grad()
def _states(model: Transformer, tokens: Tensor) -> Tensor:
    states: Tensor = model(tokens, output="hidden")
    return states.float()
