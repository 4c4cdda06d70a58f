"""`camelid eval --ladder`: every way of asking that suits a task, on one page."""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.json import write_json
from camelid.engine.fan_out import open_on
from camelid.engine.open_lm import model_identity
from camelid.evals.evaluate import Evaluation, evaluate, log_warnings
from camelid.evals.methods import Method, exemplar_pool
from camelid.evals.results import print_table, write_results
from camelid.evals.stage import evaluate_recipe, load_tasks, method_of
from camelid.prompting.attempt import Program
from camelid.prompting.ensembles import elect
from camelid.recipes.evaluate import EvaluateRecipe
from camelid.report.answers import ANSWERS, write_answers
from camelid.report.page import show_cell, write_report
from camelid.report.values import Curve, Estimate, LinePlot, Report, Section, Table
from camelid.tasks.intervals import compare_grades
from camelid.tasks.task import Task
from camelid.workflows.sensitivity import measure_sensitivity
from camelid.workflows.verifier_curves import write_verifier_curves

logger = logging.getLogger(__name__)

MOST_SHOTS = 8
"""Exemplars of a rung, if there are so many: as in Wei et al. (arXiv:2201.11903, section 3.1)."""
SAMPLES = 10
COLUMNS = (
    "way of asking", "exemplars", "accuracy", "beside direct", "p", "unparsed", "cut", "tokens", "seconds"
)  # fmt: skip


def evaluate_or_climb(recipe: EvaluateRecipe) -> None:
    """Evaluates as the recipe says, climbs the `ladder` of each task or measures its `sensitivity`."""
    if recipe.sensitivity:
        measure_sensitivity(recipe)
    elif recipe.ladder:
        _climb(recipe)
    elif recipe.verifier:
        evaluate_recipe(recipe, partial(write_verifier_curves, recipe.out, voters=recipe.voters))
    else:
        evaluate_recipe(recipe)
    if page := write_answers(recipe.out):
        logger.info(f"every answer: {page}")


def _climb(recipe: EvaluateRecipe) -> None:
    if not recipe.task or recipe.text or recipe.program:
        raise WrongCall(
            "--ladder needs --task, and chooses the programs itself: leave out --text and --program"
        )
    tasks = load_tasks(recipe.task, recipe.data, recipe.limit)
    settings = method_of(recipe)
    # Before the model is loaded: exemplars that are among the questions, for example, are refused at once.
    ways = [[(method, method.program_for(task)) for method in rungs(task, settings)] for task in tasks]
    lm = open_on(recipe.model, recipe.engine, recipe.server, recipe.on)
    identity = lm.identity or model_identity(recipe.model, recipe.engine)
    for task, its_ways in zip(tasks, ways, strict=True):
        climbed = list[Evaluation]()
        for method, program in its_ways:
            logger.info(f"{task.name}: {_named(program)}")
            climbed.append(
                evaluate(
                    task, program, lm, recipe.out, model=identity, allow_cut=True, show=sys.stderr.isatty()
                )
            )
            if method.samples > 1 and method.verifier:
                write_verifier_curves(recipe.out, task, climbed[-1], recipe.voters)
        _write(recipe, task, climbed)


def rungs(task: Task, settings: Method) -> Iterator[Method]:
    """The ways of asking that suit a task, from the plainest up.

    Raises `WrongCall` for a published evaluation, whose way of asking is fixed.
    """
    if task.format:
        raise WrongCall(f"{task.name} is asked as it was published; --ladder needs a task such as gsm8k")
    alone = replace(settings, samples=1, temperature=None, shots=0, exemplars=None, seed=None)
    pool = exemplar_pool(task, settings.exemplars)
    shots = settings.shots or min(MOST_SHOTS, len(pool))
    has_steps = bool(shots) and all(item.rationale for item in pool[:shots])
    shown = replace(alone, shots=shots, exemplars=settings.exemplars)
    yield replace(alone, program="direct")
    if shots:
        yield replace(shown, program="few_shot")
    yield replace(alone, program="chain_of_thought")
    chain = replace(shown if has_steps else alone, program="chain_of_thought")
    if has_steps:
        yield chain
    samples = settings.samples if settings.samples > 1 else SAMPLES
    sampled = replace(chain, samples=samples, temperature=settings.temperature)
    yield replace(sampled, verifier=None)
    if settings.verifier:
        yield sampled
    if task.decomposition and not settings.chat:
        yield replace(alone, program="least_to_most")
    if all(item.choices for item in task.items):
        yield replace(alone, program="likelihood", calculator=None)


def ladder_report(recipe: EvaluateRecipe, task: Task, climbed: Sequence[Evaluation]) -> Report:
    """The page of a task's evaluations; the first is what the others are compared with."""
    best = max(climbed, key=_accuracy)
    count = len(climbed[0].records)
    return Report(
        title=f"{task.name}: {len(climbed)} ways of asking",
        summary=f"Best: {best.title} with {_accuracy(best):.3f} of {count} questions right "
        f"({climbed[0].title}: {_accuracy(climbed[0]):.3f}).",
        facts={
            "model": recipe.model,
            "questions": str(count),
            "task version": task.version,
            "reading": climbed[0].main_metric,
        },
        sections=(
            Section(
                "Accuracy and its cost",
                figures=(_plot(task, climbed),),
                tables=(
                    Table(
                        "Ways of asking",
                        COLUMNS,
                        tuple(_row(each, climbed[0]) for each in climbed),
                        caption="Accuracy with its 95 % interval, and the paired difference from the first "
                        "row with "
                        "its interval and McNemar's p. Tokens and seconds are generated tokens and time a "
                        "question.",
                    ),
                ),
            ),
        ),
        footer=f"camelid eval {recipe.model} --task {task.name} --ladder. Every answer is in {ANSWERS}.",
    )


def _write(recipe: EvaluateRecipe, task: Task, climbed: Sequence[Evaluation]) -> None:
    results = [result for each in climbed for result in each.results]
    write_results(recipe.out / "results.json", results)
    print_table([result for each in climbed for result in each.results if result.metric == each.main_metric])
    log_warnings(climbed)
    name = task.file_name
    page = write_report(ladder_report(recipe, task, climbed), recipe.out / f"{name}.ladder.html")
    rows = [
        {"program": each.program} | dict(zip(COLUMNS, map(show_cell, _row(each, climbed[0])), strict=True))
        for each in climbed
    ]
    write_json(recipe.out / f"{name}.ladder.json", {"task": task.name, "rows": rows})
    logger.info(f"the page: {page}")


def _accuracy(evaluation: Evaluation) -> float:
    values = evaluation.values(evaluation.main_metric)
    return sum(values) / len(values)


def _row(evaluation: Evaluation, first: Evaluation) -> tuple[str | int | float | Estimate | None, ...]:
    result = next(each for each in evaluation.results if each.metric == evaluation.main_metric)
    paired = compare_grades(first.values(first.main_metric), evaluation.values(evaluation.main_metric))
    compared = evaluation is not first
    if result.interval is None:
        raise CamelidError(f"{evaluation.title} has no accuracy with an interval")
    return (
        evaluation.title,
        evaluation.shots,
        Estimate(result.value, result.interval.low, result.interval.high),
        Estimate(paired.difference, paired.interval.low, paired.interval.high) if compared else None,
        round(paired.p_value, 4) if compared else None,
        _percent(result.unparsed),
        _percent(result.cut),
        round(_mean_tokens(evaluation)),
        f"{sum(record.seconds for record in evaluation.records) / len(evaluation.records):.2f}",
    )


def _named(way: Program | Evaluation) -> str:
    return f"{way.title}, {way.shots} exemplars" if way.shots else way.title


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f}\u00a0%"


def _mean_tokens(evaluation: Evaluation) -> float:
    return sum(record.attempt.tokens for record in evaluation.records) / len(evaluation.records)


def _plot(task: Task, climbed: Sequence[Evaluation]) -> LinePlot:
    """Accuracy against generated tokens; votes also of the first 1, 2, 5, 10, ... samples."""
    single = [each for each in climbed if not each.records[0].attempt.samples]
    curves = [Curve(_named(each), (_mean_tokens(each),), (_accuracy(each),)) for each in single]
    for each in climbed:
        if each.records[0].attempt.samples:
            counts, accuracies = zip(*votes(task, each), strict=True)
            tokens = [_mean_tokens(each) * count / counts[-1] for count in counts]
            labels = [str(count) for count in counts]
            curves.append(Curve(_named(each), tokens, accuracies, labels=labels))
    return LinePlot(
        "Accuracy against tokens spent",
        "generated tokens a question",
        "accuracy",
        tuple(curves),
        from_zero=True,
    )


def votes(task: Task, evaluation: Evaluation) -> list[tuple[int, float]]:
    """The accuracy of a majority vote over the first n samples, for n = 1, 2, 5, 10, ... up to all."""
    metric = evaluation.main_metric
    items = {item.id: item for item in task.items}
    right: dict[int, int] = {}
    for record in evaluation.records:
        item, samples = items[record.id], record.attempt.samples
        answers = [task.read(item, each.text)[metric] for each in samples]
        for count in _counts(len(samples)):
            winner = elect(answers[:count], [1.0] * count)
            correct = winner is not None and task.grade(item, samples[winner].text)[metric].correct
            right[count] = right.get(count, 0) + correct
    return [(count, hits / len(evaluation.records)) for count, hits in right.items()]


def _counts(most: int) -> list[int]:
    steps = [digit * 10**power for power in range(4) for digit in (1, 2, 5)]
    return [*(step for step in steps if step < most), most]
