"""Best of n: the answers of a model that a reward rates highest, as data to tune it on.

Rejection sampling (LLaMA 2, arXiv:2307.09288, section 3.2.3); with a grader also STaR (arXiv:2203.14465) and
RFT (arXiv:2308.01825); in several rounds expert iteration (ReST-EM, arXiv:2312.06585).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from camelid.align.solutions import Solution


@dataclass(frozen=True)
class Rated:
    """A question's answers with their rewards."""

    answers: tuple[Solution, ...]
    rewards: tuple[float, ...]


def best_answers(question: Rated, keep: int, least: float) -> list[Solution]:
    """At most `keep` different answers with the highest rewards, of at least `least`; of ties the first."""
    found: dict[str, Solution] = {}
    order = sorted(range(len(question.rewards)), key=lambda at: -question.rewards[at])
    for at in order:
        if question.rewards[at] >= least and len(found) < keep:
            found.setdefault(question.answers[at].text.strip(), question.answers[at])
    return [*found.values()]


def worth_tuning_on(question: Rated, *, allow_cut: bool = False) -> Rated:
    """Without empty answers, and without those that did not end by themselves: tuning on these would teach to
    end where they were cut."""
    kept = [at for at, one in enumerate(question.answers) if one.text.strip() and (allow_cut or not one.cut)]
    return Rated(tuple(question.answers[at] for at in kept), tuple(question.rewards[at] for at in kept))


def kl_bound(n: int) -> float:
    """ln n - (n - 1) / n, in nats: how far the best of n is at most from the model that answers.

    Stiennon et al. (arXiv:2009.01325, appendix G.3); exact if no two answers are equally good.
    """
    return math.log(n) - (n - 1) / n


def summary(questions: Sequence[Rated]) -> dict[str, float]:
    """Means over the questions: of all rewards, those of empty answers included, and of the best ones."""
    if not questions:
        return {}
    return {
        "reward": sum(sum(each.rewards) / len(each.rewards) for each in questions) / len(questions),
        "best_reward": sum(max(each.rewards) for each in questions) / len(questions),
    }
