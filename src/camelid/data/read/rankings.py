"""Rows of a prompt with several scored answers, such as `camelid make preferences` writes.

    {"prompt": "...", "judge": {"name": "...", "kind": "..."},
     "answers": [{"content": "...", "score": 0.5}, {"content": "...", "score": 0.5}, ...]}

An answer has a `score`, a `rank` (0 the best), or `votes` with `accepted`, as on Stack Exchange. A row holds
what one judge thinks: a person, a model or a grader; another judge of the same answers writes another row.
"""

import math
from collections.abc import Mapping
from typing import Any

from camelid.base.errors import CamelidError, shortened
from camelid.data.read.comparisons import Messages, Ranking, Verdict, number_in
from camelid.data.read.rows import Row

TEXTS = ("content", "text", "answer", "response")
"""The keys under which an answer's text may stand."""
SCORES, VOTES, RANK, ACCEPTED = ("score", "pm_score"), "votes", "rank", ("accepted", "selected")


def is_ranked(row: Row) -> bool:
    """Whether a row has answers with scores, ranks or votes."""
    answers = row.get("answers")
    return (
        isinstance(answers, list)
        and bool(answers)
        and all(isinstance(each, Mapping) and not {*SCORES, VOTES, RANK}.isdisjoint(each) for each in answers)
    )


def votes_score(votes: float, accepted: bool) -> float:
    """log2(1 + votes) rounded, plus 1 for an accepted answer; -1 for negative votes.

    Askell et al. 2021 (arXiv:2112.00861, section 4.2), as used by StackLLaMA.
    """
    return -1.0 if votes < 0 else float(round(math.log2(1 + votes)) + accepted)


def scored_answers(row: Row, prompt: Messages) -> list[Ranking]:
    """The ranking of a row's answers to `prompt`; none for fewer than two."""
    answers = row["answers"]
    if not is_ranked(row):
        raise CamelidError(
            f"`answers` is {shortened(answers)}; it must be a list of objects with content and score, "
            "rank or votes"
        )
    scored = [_score(answer, f"answers[{index}]") for index, answer in enumerate(answers)]
    if len({name for _, name in scored}) > 1:
        raise CamelidError(
            f"`answers` have {' and '.join(sorted({name for _, name in scored}))}; give one of them"
        )
    texts = [_text(answer, f"answers[{index}]") for index, answer in enumerate(answers)]
    if len(texts) < 2:
        return []
    threads = tuple([*prompt, {"role": "assistant", "content": text}] for text in texts)
    return [Ranking(threads, tuple(score for score, _ in scored), len(prompt), scored[0][1] != RANK)]


def best_and_worst(rankings: list[Ranking]) -> list[Verdict]:
    """The best answer of each ranking as good and the worst as bad; none of one whose scores are all
    equal."""
    found = []
    for ranking in rankings:
        order = sorted(range(len(ranking.scores)), key=lambda at: -ranking.scores[at])
        if ranking.scores[order[0]] > ranking.scores[order[-1]]:
            found.append(Verdict(ranking.answers[order[0]], "good", ranking.context))
            found.append(Verdict(ranking.answers[order[-1]], "bad", ranking.context))
    return found


def _score(answer: Mapping[str, Any], where: str) -> tuple[float, str]:
    """The score of an answer, and what it is made of."""
    try:
        for name in SCORES:
            if (score := number_in(answer, name)) is not None:
                return score, "score"
        if (rank := number_in(answer, RANK)) is not None:
            return -rank, RANK
        if (votes := number_in(answer, VOTES)) is not None:
            return votes_score(votes, any(bool(answer.get(name)) for name in ACCEPTED)), VOTES
    except CamelidError as error:
        raise CamelidError(f"{where}: {error}") from None
    raise CamelidError(f"{where} has neither a score nor a rank nor votes")


def _text(answer: Mapping[str, Any], where: str) -> str:
    name = next((name for name in TEXTS if name in answer), TEXTS[0])
    if not isinstance(text := answer.get(name), str):
        raise CamelidError(f"{where}.{name} is {shortened(text)}; it must be a string")
    return text
