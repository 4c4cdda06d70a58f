"""Accuracy against the number of samples that a verifier chooses from, beside the majority's."""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from pathlib import Path

from camelid.base.json import write_json
from camelid.evals.evaluate import Evaluation
from camelid.prompting.ensembles import elect, ranked
from camelid.report.page import write_report
from camelid.report.values import Cell, Curve, Estimate, LinePlot, Report, Section, Table
from camelid.tasks.intervals import bootstrap_mean, compare_grades
from camelid.tasks.task import Task

logger = logging.getLogger(__name__)

DRAWS = 32
"""Subsets of the samples over which a vote is averaged, if there are so many; the other curves are exact."""
VOTERS = 5
"""Of the attempts rated highest, so many vote in the paper's figure for 100 samples (section 4.4)."""
BEST, VOTE, MAJORITY, POSSIBLE = "best of n", "vote of the best", "majority", "any right"


@dataclass(frozen=True)
class Sampled:
    """The samples of one question: whether each is right, what it answers, and its score."""

    right: tuple[bool, ...]
    answers: tuple[str | None, ...]
    scores: tuple[float | None, ...]


def sampled(task: Task, evaluation: Evaluation) -> list[Sampled]:
    """The samples of an evaluation whose attempts were chosen by a scorer."""
    items, metric = {item.id: item for item in task.items}, evaluation.main_metric
    found = []
    for record in evaluation.records:
        item, samples = items[record.id], record.attempt.samples
        right = tuple(task.grade(item, each.text)[metric].correct for each in samples)
        answers = tuple(each.readings[metric] for each in samples)
        found.append(Sampled(right, answers, tuple(each.score for each in samples)))
    return found


def chance_of_best(question: Sampled, n: int) -> float:
    """The probability that the best rated of n samples, drawn without replacement, is right.

    The sample of rank r is the best of a subset if the n - 1 others are ranked below it: C(N - r, n - 1) of
    the C(N, n) subsets, r from 1.
    """
    order, total = ranked(question.scores), len(question.scores)
    ways = sum(comb(total - rank, n - 1) for rank, at in enumerate(order, 1) if question.right[at])
    return ways / comb(total, n)


def chance_of_any(question: Sampled, n: int) -> float:
    """The probability that at least one of n samples is right: 1 - C(wrong, n) / C(N, n), "pass at n"."""
    total = len(question.right)
    return 1 - comb(total - sum(question.right), n) / comb(total, n)


def chance_of_vote(question: Sampled, n: int, voters: int | None, seed: int = 0) -> float:
    """How often a vote over n samples is right, over `DRAWS` seeded subsets; voters: only of the best."""
    dice, total = random.Random(f"{seed} {n}"), len(question.right)
    drawn = (sorted(dice.sample(range(total), n)) for _ in range(DRAWS))
    subsets = [*(combinations(range(total), n) if comb(total, n) <= DRAWS else drawn)]
    hits = 0
    for subset in subsets:
        order = [subset[at] for at in ranked([question.scores[at] for at in subset])]
        chosen = subset if voters is None else order[:voters]
        winner = elect([question.answers[at] for at in chosen], [1.0] * len(chosen))
        hits += winner is not None and question.right[chosen[winner]]
    return hits / len(subsets)


Way = Callable[[Sampled, int], float]


def ways(voters: int) -> Mapping[str, Way]:
    """The ways of choosing among n samples of a question, each with the probability of a right answer."""
    return {
        BEST: chance_of_best,
        f"{VOTE} {voters}": lambda question, n: chance_of_vote(question, n, voters),
        MAJORITY: lambda question, n: chance_of_vote(question, n, None),
        POSSIBLE: chance_of_any,
    }


def curves(questions: Sequence[Sampled], counts: Sequence[int], voters: int) -> dict[str, list[list[float]]]:
    """For each way and each n the probability that each question is answered rightly."""
    return {
        name: [[way(question, n) for question in questions] for n in counts]
        for name, way in ways(voters).items()
    }


def counts_up_to(most: int) -> list[int]:
    """1, 2, 4, 8, ... and the number of samples itself."""
    return [*(1 << power for power in range((most - 1).bit_length())), most]


def write_verifier_curves(out: Path, task: Task, evaluation: Evaluation, voters: int) -> Path:
    """Writes <task>.verifier.html and .json into an evaluation's folder; returns the page."""
    questions = sampled(task, evaluation)
    counts = counts_up_to(len(questions[0].right))
    voters = voters if voters > 1 else min(VOTERS, counts[-1])
    found = curves(questions, counts, voters)
    name = task.file_name
    write_json(out / f"{name}.verifier.json", _table(counts, found))
    page = write_report(_report(task, evaluation, counts, found), out / f"{name}.verifier.html")
    logger.info(f"accuracy against the number of samples: {page}")
    return page


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _estimate(values: Sequence[float]) -> Estimate:
    interval = bootstrap_mean(values)
    return Estimate(_mean(values), interval.low, interval.high)


def _table(counts: Sequence[int], found: Mapping[str, list[list[float]]]) -> dict[str, object]:
    rows: list[dict[str, object]] = []
    for at, count in enumerate(counts):
        row: dict[str, object] = {"n": count}
        for name, by_count in found.items():
            estimate = _estimate(by_count[at])
            row[name] = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
        paired = compare_grades(found[MAJORITY][at], found[BEST][at])
        row["best of n - majority"] = {
            "difference": paired.difference,
            "low": paired.interval.low,
            "high": paired.interval.high,
        }
        rows.append(row)
    final = compare_grades(found[MAJORITY][-1], found[BEST][-1])
    return {"questions": len(found[BEST][0]), "p_value": final.p_value, "rows": rows}


def _report(
    task: Task, evaluation: Evaluation, counts: Sequence[int], found: Mapping[str, list[list[float]]]
) -> Report:
    best = [_mean(values) for values in found[BEST]]
    peak = max(range(len(counts)), key=lambda at: best[at])
    final = compare_grades(found[MAJORITY][-1], found[BEST][-1])
    shape = "still rises at the end" if peak == len(counts) - 1 else "declines after that"
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (count, *(_estimate(by_count[at]) for by_count in found.values())) for at, count in enumerate(counts)
    )
    curves_shown = tuple(Curve(name, counts, [_mean(v) for v in by_n]) for name, by_n in found.items())
    return Report(
        title=f"{task.name}: accuracy against the number of samples",
        summary=f"Best of n is highest at n = {counts[peak]} with {best[peak]:.3f} and {shape}; of all "
        f"{counts[-1]} samples the verifier chooses {best[-1]:.3f} right, the majority "
        f"{_mean(found[MAJORITY][-1]):.3f} (difference {final.difference:+.3f}, from "
        f"{final.interval.low:+.3f} to {final.interval.high:+.3f}, p = {final.p_value:.3g}).",
        facts={
            "model": evaluation.model,
            "verifier": str(evaluation.settings["scorer"]),
            "questions": str(len(evaluation.records)),
            "reading": evaluation.main_metric,
        },
        sections=(
            Section(
                "Accuracy",
                figures=(
                    LinePlot("Accuracy against n", "samples n", "accuracy", curves_shown, from_zero=True),
                ),
                tables=(
                    Table(
                        "The same samples",
                        ("n", *found),
                        rows,
                        caption="Means over subsets of n of each question's samples, with 95 % bootstrap "
                        "intervals over the questions; `any right` is what a perfect verifier would reach.",
                    ),
                ),
            ),
        ),
    )
