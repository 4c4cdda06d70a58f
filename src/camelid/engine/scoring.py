"""The score of a continuation in the making: a request whose tokens are given, not drawn."""

from collections.abc import Sequence

import torch
from torch import Tensor

from camelid.engine.decoder import Predictions, Top, check_finite
from camelid.lm.interface import Score

MOST_SCORED = 512
"""Tokens of continuations in a step, whose logits exist at once."""


class Scoring:
    """One continuation of one prompt, `target`; like a generation, it knows nothing of the model or of the
    batch.

    `tokens` are those whose probabilities are known: the first is predicted by the prompt, the others by each
    other. `top` has as many `alternatives` for each of them as were asked for.
    """

    def __init__(self, prompt: Sequence[int], target: Sequence[int], alternatives: int = 0) -> None:
        self.prompt, self.target, self.alternatives = tuple(prompt), tuple(target), alternatives
        self.cached = 0
        self.error: Exception | None = None
        self.submitted = self.cancelled = False
        self.restart()

    def restart(self) -> None:
        """Forgets what is known, as when the model has changed."""
        self._logprobs: list[Tensor] = []
        self.top: list[Top] = []
        self._is_greedy, self._known = True, 0

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.target[: self._known]

    @property
    def left(self) -> tuple[int, ...]:
        """The tokens that predict what is not known yet, the last known one first."""
        return self.target[self._known - 1 : -1]

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._known == len(self.target) or self.error is not None or self.cancelled

    def take(self, predictions: Predictions) -> None:
        """Takes the predictions of the next target tokens, one a row; raises `CamelidError` if they are not
        finite."""
        check_finite(predictions.log_total.tolist())
        count = len(predictions.greedy)
        logprobs, are_greedy = predictions.logprobs(self.target[self._known : self._known + count])
        self._logprobs.append(logprobs)
        if self.alternatives:
            self.top += [predictions.top(row, self.alternatives) for row in range(count)]
        self._is_greedy = self._is_greedy and are_greedy
        self._known += count

    def fail(self, error: Exception) -> None:
        """Ends it without a score."""
        self.error = error

    def score(self) -> Score:
        """The finished score."""
        logprobs = torch.cat(self._logprobs)
        return Score(float(logprobs.sum()), len(self.target), self._is_greedy, tuple(logprobs.tolist()))
