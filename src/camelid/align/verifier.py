"""Verifiers: a model that predicts after every token of a solution whether its answer will be right.

Cobbe et al. (arXiv:2110.14168, section 4.2 and appendix E): the verifier begins as the generator, and is
trained on sampled solutions with the squared error of its value, and in equal parts on worked solutions as a
language model. Neither loss counts the tokens of the question.
"""

import numpy as np
import torch
from torch import Tensor

from camelid.data.rows.batches import AnyBatch
from camelid.data.rows.examples import Example, prompted_example
from camelid.engine.encoding import Ids
from camelid.model.values import ValueModel
from camelid.train.loop import Objective
from camelid.train.losses import chunked_cross_entropy
from camelid.train.objectives import read_out

LABEL, RATED = "label", "rated"
"""Columns of a batch: the label of each token, and 1 where the loss is that of the value."""


def verifier_loss(model: ValueModel, dtype: torch.dtype | None = None, z_loss: float = 0.0) -> Objective:
    """sum_i w_i (r_i (v_i - y_i)^2 + (1 - r_i) (-log p(x_i+1 | x_<=i))): each token has one of two losses.

    v_i: the value after token i; y_i: 1 if the solution is right, else 0; r_i: 1 on tokens of a sampled
    solution, 0 on those of a worked one (Cobbe et al., section 4.2).
    """

    def summed_loss(batch: AnyBatch) -> Tensor:
        rated = batch.extra[RATED]

        def loss(hidden: Tensor, weight: Tensor) -> Tensor:
            language = chunked_cross_entropy(
                hidden, weight, batch.targets, batch.weights * (1 - rated), z_loss
            )
            errors = (model.values(hidden, weight) - batch.extra[LABEL]).square()
            return language + (batch.weights * rated * errors).sum()

        return read_out(model, batch, loss, dtype)

    return summed_loss


def rated_example(prompt: Ids, solution: Ids, value: float, *, every_token: bool = True) -> Example:
    """A text whose value is trained after each token of the solution, or only after its last."""
    tokens = np.array([*prompt, *solution], dtype=np.int32)
    rated = np.zeros(len(tokens), dtype=np.float32)
    rated[len(prompt) if every_token else -1 :] = 1
    extra = {RATED: rated, LABEL: rated * np.float32(value)}
    return Example(tokens, np.zeros_like(tokens), rated, extra)


def language_example(prompt: Ids, solution: Ids) -> Example:
    """A text whose solution is trained as in a language model."""
    plain = prompted_example(prompt, solution, 0.0)
    nothing = np.zeros(len(plain), dtype=np.float32)
    return Example(plain.tokens, plain.targets, plain.weights, {RATED: nothing, LABEL: nothing})
