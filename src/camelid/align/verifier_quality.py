"""How well values tell right solutions from wrong ones, on questions that were not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camelid.align.verifier_rows import RatedText
from camelid.engine.encoding import Ids
from camelid.model.reward import last_values
from camelid.model.values import ValueModel
from camelid.train.fit import Setup
from camelid.train.validation import evaluating


@dataclass(frozen=True)
class VerifierQuality:
    """How well the last values of solutions tell right from wrong."""

    squared_error: float
    right_first: float | None
    """How often a right solution is above a wrong one of the same question; ties count half. None without
    such pairs."""

    @property
    def measures(self) -> dict[str, float]:
        """The values by the names that logs give them."""
        shares = {} if self.right_first is None else {"right_first": self.right_first}
        return {"squared_error": self.squared_error, **shares}


def verifier_quality(
    held_out: Sequence[Sequence[RatedText]], model: ValueModel, setup: Setup
) -> VerifierQuality:
    """Measures a model in training on questions that it is not trained on."""
    flat = [one for question in held_out for one in question]
    with evaluating(model):
        values = final_values(model, [(*one.prompt, *one.solution) for one in flat], setup)
    right = np.array([one.right for one in flat])
    ends = np.cumsum([len(question) for question in held_out])
    pairs = [_in_order(*each) for each in zip(np.split(values, ends), np.split(right, ends), strict=True)]
    won, compared = (sum(each) for each in zip(*pairs, strict=True))
    return VerifierQuality(float(np.square(values - right).mean()), won / compared if compared else None)


def _in_order(values: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[float, int]:
    """How many pairs of a right and a wrong solution are in order, and how many there are."""
    above = values[right][:, None] - values[~right][None]
    return float((above > 0).sum() + 0.5 * (above == 0).sum()), above.size


def final_values(model: ValueModel, texts: Sequence[Ids], setup: Setup) -> NDArray[np.float64]:
    """The value after the last token of each text, in the model's present mode."""
    return np.array(last_values(model, texts, setup.micro_batch_size, setup.dtype, model.values))
