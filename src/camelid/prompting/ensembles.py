"""Many samples, one answer: self-consistency and best of n, over any program."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from camelid.base.errors import WrongCall
from camelid.prompting.asking import Question
from camelid.prompting.attempt import Attempt, Program, Read, Readings
from camelid.prompting.steps import Steps, side_by_side

Weighting = Literal["majority", "sum", "normalised_sum", "average", "normalised_average"]
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)

Scorer = Callable[[Question, Sequence[Attempt]], Sequence[float]]
"""How good each attempt at a question is, such as a verifier's or a reward model's score."""


def self_consistency(program: Program, samples: int = 40, weighting: Weighting = "majority") -> Program:
    """Samples several attempts and takes the answer that most agree on (Wang et al., arXiv:2203.11171).

    The program must sample: give it a temperature (section 3.1 there: 0.7 for GPT-3 and PaLM, 0.5 for LaMDA).
    Answers are read as the task grades them; attempts without an answer have no vote. weighting: `majority`
    counts votes; `sum` adds P(reasons, answer | prompt) for each answer, `normalised_sum` its geometric mean
    per token, and the averages divide by the number of votes (table 1 there). Raises `WrongCall` for fewer
    than one sample, for an unknown weighting, and if a weighting needs probabilities that the model does not
    report.
    """
    _must_sample(program, samples)
    if weighting not in WEIGHTINGS:
        raise WrongCall(f"the weighting is {weighting!r}; it must be one of {', '.join(WEIGHTINGS)}")

    def ask(question: Question, read: Read | None) -> Steps[Attempt]:
        if read is None:
            raise WrongCall(
                "self-consistency votes on answers: pass `read`, which extracts them from a reply, "
                "as evaluate does"
            )
        attempts = yield from _sampled(program, samples, question, read)
        attempts = [_read(attempt, question, read) for attempt in attempts]
        readings = [attempt.readings for attempt in attempts]
        elected = _elections(readings, _weights(attempts, weighting), average="average" in weighting)
        return _joined(attempts, next(iter(elected.values()), 0), elected)

    settings = {**program.settings, "samples": samples, "weighting": weighting}
    name = f"self_consistency_{samples}.{program.name}"
    how = f"{samples} samples" + ("" if weighting == "majority" else f" by {weighting.replace('_', ' ')}")
    title = f"self-consistency ({how}) over {program.title}"
    return Program(name, program.version, ask, settings, program.shots, title)


def best_of_n(
    program: Program, scorer: Scorer, samples: int = 100, *, voters: int = 1, name: str = ""
) -> Program:
    """Samples several attempts and takes the one that a scorer rates highest (Cobbe et al., arXiv:2110.14168,
    section 4).

    voters: let this many of the highest rated vote on the answer instead (section 4.4 there). name:
    identifies the scorer in the record, such as the digest of a verifier. Raises `WrongCall` for fewer
    samples than voters.
    """
    _must_sample(program, samples)
    if not 1 <= voters <= samples:
        raise WrongCall(f"voters is {voters}; it must be from 1 to the number of samples, {samples}")

    def ask(question: Question, read: Read | None) -> Steps[Attempt]:
        attempts = yield from _sampled(program, samples, question, read)
        attempts = rated(scorer, question, attempts)
        best = ranked([attempt.score for attempt in attempts])[:voters]
        if read is not None:
            attempts = [_read(attempt, question, read) for attempt in attempts]
        if voters == 1:
            return _joined(attempts, best[0], {})
        if read is None:
            raise WrongCall("a vote needs `read`, which extracts the answer from a reply; evaluate passes it")
        readings = [attempts[at].readings for at in best]
        elected = {way: best[at] for way, at in _elections(readings, [1.0] * voters).items()}
        return _joined(attempts, next(iter(elected.values()), best[0]), elected)

    settings = {**program.settings, "samples": samples, "voters": voters, "scorer": name}
    how = f"best of {samples}" + ("" if voters == 1 else f", vote of the best {voters}")
    best_name, title = f"best_of_{samples}.{program.name}", f"{how} over {program.title}"
    return Program(best_name, program.version, ask, settings, program.shots, title)


def rated(scorer: Scorer, question: Question, attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts with their scores; one whose score is not finite has None, and is never preferred."""
    scores = scorer(question, attempts)
    return [
        dataclasses.replace(attempt, score=score if math.isfinite(score) else None)
        for attempt, score in zip(attempts, scores, strict=True)
    ]


def ranked(scores: Sequence[float | None]) -> list[int]:
    """The places of the scores, the highest first; of equal ones the first, and None at the end."""
    worth = [-math.inf if score is None else score for score in scores]
    return sorted(range(len(scores)), key=lambda at: -worth[at])


def elect(answers: Sequence[str | None], weights: Sequence[float], *, average: bool = False) -> int | None:
    """The first sample whose answer has the greatest sum (or average) of weights; None without answers.

    Of answers with equal weight the one that was sampled first wins. Answers that differ only in case, in
    white space or in a final full stop are the same.
    """
    votes = defaultdict[str, list[float]](list)
    first: dict[str, int] = {}
    for at, (answer, weight) in enumerate(zip(answers, weights, strict=True)):
        if answer is not None:
            key = " ".join(answer.casefold().split()).rstrip(".")
            votes[key].append(weight)
            first.setdefault(key, at)
    if not first:
        return None
    total = {key: math.fsum(its) / (len(its) if average else 1) for key, its in votes.items()}
    return first[max(first, key=lambda key: (total[key], -first[key]))]


def _elections(
    readings: Sequence[Readings], weights: Sequence[float], *, average: bool = False
) -> dict[str, int]:
    """The election of every way of reading that found an answer in any sample."""
    winners = {
        way: elect([reading[way] for reading in readings], weights, average=average) for way in readings[0]
    }
    return {way: winner for way, winner in winners.items() if winner is not None}


def _sampled(program: Program, samples: int, question: Question, read: Read | None) -> Steps[list[Attempt]]:
    return side_by_side((program.ask(question, read) for _ in range(samples)), samples=True)


def _weights(attempts: Sequence[Attempt], weighting: Weighting) -> list[float]:
    """The weight of each vote, relative to the greatest: probabilities of whole texts can underflow."""
    if weighting == "majority":
        return [1.0] * len(attempts)
    logs = []
    for attempt in attempts:
        if attempt.logprob is None:
            raise WrongCall(
                f"the weighting {weighting} needs log-probabilities, which this model does not report; "
                "use majority"
            )
        logs.append(attempt.logprob / (max(attempt.tokens, 1) if "normalised" in weighting else 1))
    return [math.exp(each - max(logs)) for each in logs]


def _joined(attempts: Sequence[Attempt], best: int, elected: Mapping[str, int]) -> Attempt:
    """All samples as one attempt; what is graded is the best one, or what each way of reading elected."""
    return dataclasses.replace(
        attempts[best],
        tokens=sum(attempt.tokens for attempt in attempts),
        cut=all(attempt.cut for attempt in attempts),
        samples=tuple(attempts),
        elected=elected,
    )


def _read(attempt: Attempt, question: Question, read: Read) -> Attempt:
    return dataclasses.replace(attempt, readings=read(question, attempt.text))


def _must_sample(program: Program, samples: int) -> None:
    if samples < 1:
        raise WrongCall(f"samples is {samples}; it must be at least 1")
    sampling = program.settings.get("sampling")
    if samples > 1 and isinstance(sampling, Mapping) and not sampling.get("temperature"):
        raise WrongCall(
            f"{program.name} decodes greedily, so all {samples} samples would be the same; "
            "give it a temperature, "
            "such as Sampling(temperature=0.7)"
        )
