"""The part of the quickstart's report about reinforcement: skills before and after, and samples."""

from collections.abc import Iterator

from camelid.align.policy_report import samples
from camelid.evals.evaluate import Evaluation, compare_evaluations
from camelid.evals.results import Result
from camelid.report.values import Cell, Estimate, Section, Table
from camelid.tasks.graders import STRICT
from camelid.workflows.quickstart.evaluation import REINFORCED, Results
from camelid.workflows.quickstart.job import Job
from camelid.workflows.quickstart.recipes import HARD_SKILLS

IN_STEPS = "chain_of_thought"


def reinforcement(job: Job, results: Results) -> Iterator[Section]:
    """Each skill before and after, in steps, as paired differences; then held-out answers side by side."""
    models = {model.name: model.evaluations for model in results.models}
    rows = tuple(
        _row(before, after)
        for before, after in zip(models["16-bit"], models[REINFORCED], strict=True)
        if before.program.startswith(IN_STEPS)
    )
    columns = ("skill", "before", "after", "difference in points", "only after right", "only before", "p")
    yield Section(
        "Reinforcement",
        f"After tuning, the model practised {' and '.join(HARD_SKILLS)} by GRPO: it answered training "
        "questions in steps, and right answers were rewarded. The other skills show what it cost them. "
        "Percent right of held-out questions, graded strictly, with 95 % Wilson intervals; McNemar's p.",
        tables=(Table("", columns, rows),),
    )
    yield from samples(job.out / "reinforce")


def _row(before: Evaluation, after: Evaluation) -> tuple[Cell, ...]:
    change = compare_evaluations(before, after, STRICT)
    return (
        before.task,
        *(_estimate(each) for each in (before, after)),
        round(100 * change.difference, 1),
        change.gained,
        change.lost,
        round(change.p_value, 3),
    )


def _estimate(evaluation: Evaluation) -> Estimate:
    [result] = [each for each in evaluation.results if each.metric == STRICT]
    return estimate(result)


def estimate(result: Result) -> Estimate:
    """An accuracy with its interval, in percent."""
    assert result.interval is not None  # every accuracy has one
    return Estimate(100 * result.value, 100 * result.interval.low, 100 * result.interval.high)
