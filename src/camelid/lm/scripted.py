"""An LM with scripted answers, for tests of code that calls models."""

from collections.abc import Callable, Sequence

from camelid.base.errors import WrongCall
from camelid.lm.constraint import check_text
from camelid.lm.interface import LM, Completion, Prompt, Score, as_pairs
from camelid.lm.sampling import Sampling


class ScriptedLM(LM):
    """An LM for tests, whose completions come from a function or from a list of answers in order.

    `score` counts a continuation's words as tokens, each with log-probability -1, unless `logprob` is given.
    `prompts` holds every prompt so far. Raises `WrongCall` when the list of answers runs out, and on an
    answer that `regex` or `json_schema` does not allow.
    """

    def __init__(
        self,
        answers: Sequence[str] | Callable[[Prompt], str],
        logprob: Callable[[Prompt, str], float] | None = None,
    ) -> None:
        self.prompts: list[Prompt] = []
        self._answer = answers if callable(answers) else _in_turn(answers)
        self._logprob = logprob or (lambda _, continuation: -float(len(continuation.split())))

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """The script's answers, cut at the stop strings."""
        return [[self._complete(prompt, sampling) for _ in range(sampling.samples)] for prompt in prompts]

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        """The script's score of each pair."""
        pairs = as_pairs(prompts, continuations)
        return [Score(self._logprob(p, c), len(c.split()), is_greedy=False) for p, c in pairs]

    def _complete(self, prompt: Prompt, sampling: Sampling) -> Completion:
        self.prompts.append(prompt)
        text = self._answer(prompt)
        if sampling.is_constrained:
            check_text(sampling, text)
        ends = [end for stop in sampling.stop if (end := text.find(stop)) >= 0]
        return Completion(text[: min(ends, default=len(text))], (), (), "stop")


def _in_turn(answers: Sequence[str]) -> Callable[[Prompt], str]:
    rest = iter(answers)

    def answer(_: Prompt) -> str:
        try:
            return next(rest)
        except StopIteration:
            raise WrongCall(f"the script holds {len(answers)} answers and was asked for more") from None

    return answer
