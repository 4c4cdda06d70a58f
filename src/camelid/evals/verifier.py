"""A verifier as a scorer of attempts."""

import math
from collections.abc import Sequence

from camelid.evals.methods import Verifier
from camelid.prompting.asking import Question
from camelid.prompting.attempt import Attempt


def open_verifier(model: str, name: str, device: str | None = None) -> Verifier:
    """The verifier in a folder; name: identifies it in records.

    An attempt is rated by the value after its last token; an empty one is never preferred.
    """
    from camelid.engine.values import ValueScorer

    scorer = ValueScorer.load(model, device=device)

    def scores(question: Question, attempts: Sequence[Attempt]) -> list[float]:
        rated = {at: attempt.solution for at, attempt in enumerate(attempts) if attempt.solution[1].strip()}
        prompts, texts = [pair[0] for pair in rated.values()], [pair[1] for pair in rated.values()]
        found = dict(zip(rated, scorer.values(prompts, texts), strict=True))
        return [found[at][-1] if at in found else -math.inf for at in range(len(attempts))]

    return Verifier(scores, name)
