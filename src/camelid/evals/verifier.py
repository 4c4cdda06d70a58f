"""A verifier or a reward model as a scorer of attempts."""

import math
from collections.abc import Callable, Sequence

from camelid.evals.methods import Verifier
from camelid.lm.interface import Prompt
from camelid.prompting.asking import Question
from camelid.prompting.attempt import Attempt
from camelid.tasks.reward_function import Sample

Rate = Callable[[Sequence[Prompt], Sequence[str]], list[float]]


def open_verifier(model: str, name: str, device: str | None = None) -> Verifier:
    """The verifier or the reward model in a folder; name: identifies it in records.

    An attempt is rated by the value after its last token, by a reward model as the answer in a conversation;
    an empty one is never preferred.
    """
    rate = _rate(model, device)

    def scores(question: Question, attempts: Sequence[Attempt]) -> list[float]:
        rated = {at: attempt.solution for at, attempt in enumerate(attempts) if attempt.solution[1].strip()}
        prompts, texts = [pair[0] for pair in rated.values()], [pair[1] for pair in rated.values()]
        found = dict(zip(rated, rate(prompts, texts), strict=True))
        return [found.get(at, -math.inf) for at in range(len(attempts))]

    return Verifier(scores, name)


def _rate(model: str, device: str | None) -> Rate:
    from camelid.engine.reward_model import RewardModel, holds_reward_model
    from camelid.engine.values import ValueScorer

    if holds_reward_model(model):
        reward = RewardModel.load(model, device=device)
        return lambda prompts, texts: reward.score(
            [Sample(prompt, text.strip()).conversation for prompt, text in zip(prompts, texts, strict=True)]
        )
    scorer = ValueScorer.load(model, device=device)
    return lambda prompts, texts: [values[-1] for values in scorer.values(prompts, texts)]
