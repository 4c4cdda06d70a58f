"""What a quickstart says first when a stage fell short of its plan, or tuning made the model worse."""

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from pathlib import Path

from camelid.evals.evaluate import Evaluation
from camelid.runs.run import METRICS, read_metrics
from camelid.tasks.graders import STRICT
from camelid.workflows.quickstart.evaluation import ModelResult, Results
from camelid.workflows.quickstart.job import PRACTICE_STOPPED, Job

ENOUGH = 0.8
"""Share of the planned updates below which a stage fell short."""


def notes(job: Job, results: Results) -> list[str]:
    """Sentences for the top of the report and the last lines on the terminal; empty if all went as
    planned."""
    before, after = results.models[:2]
    found = []
    if worse := tuning_harm(before, after):
        found.append(
            f"Tuning made the model worse: {worse}. Use the model before tuning, {job.pretrained}, "
            "or tune again: "
            f"camelid tune {job.out / 'tune' / 'recipe.yaml'} --out {job.out}-tune"
        )
    if reason := job.journal.decisions.get(PRACTICE_STOPPED):
        found.append(f"Practice stopped, so the finished model is the tuned one: {reason}.")
    return found + [_sentence(job, stage, made, planned) for stage, made, planned in shortfalls(job)]


def shortfalls(job: Job) -> Iterator[tuple[str, int, int]]:
    """The stages that made less than `ENOUGH` of the planned updates: name, updates made and planned."""
    for stage in ("pretrain", "tune"):
        sizes: Mapping[str, int] = job.journal.decisions.get(stage, {})
        path = job.out / stage / METRICS
        planned = sizes.get("planned", sizes.get("steps", 0))
        made = int(read_metrics(path)[-1]["step"]) if path.exists() else planned
        if made < ENOUGH * planned:
            yield stage, made, planned


def _sentence(job: Job, stage: str, made: int, planned: int) -> str:
    what = {"pretrain": "Pretraining", "tune": "Tuning"}[stage]
    fact = (
        f"{what} made {made:,} of {planned:,} planned updates, because the machine was slower than measured. "
    )
    if stage == "tune":
        return f"{fact}For all of them: camelid tune {job.out / 'tune' / 'recipe.yaml'} --out {job.out}-tune"
    minutes = job.budget.seconds / 60 * planned / max(1, made)
    return f"{fact}For all of them: {again(job, minutes, Path(f'{job.out}-longer'))}"


def again(job: Job, minutes: float, out: Path) -> str:
    """The command of this quickstart with other minutes, in another folder."""
    words = ["camelid quickstart", f"--minutes {minutes:.0f}", f"--out {out}"]
    for flag, paths in (("--text", job.text), ("--chats", job.chats)):
        if paths:
            words.append(" ".join([flag, *map(str, paths)]))
    if job.seed:
        words.append(f"--seed {job.seed}")
    if job.law is not None:
        words.append(f"--law {job.law}")
    if job.reinforces:
        words.append("--reinforce")
    return " ".join(words)


def tuning_harm(before: ModelResult, after: ModelResult) -> str | None:
    """How tuning made the model worse, or None: a higher loss, or clearly fewer right answers.

    Each task counts with its best way of asking; "clearly" is two standard errors of the difference.
    """
    old, new = (model.chat_loss.nats_per_token for model in (before, after))
    if new > old:
        return f"its loss on held-out conversations rose from {old:.3f} to {new:.3f} nats per token"
    (right, asked), (right_now, asked_now) = _answers(before.evaluations), _answers(after.evaluations)
    if not asked or not asked_now:
        return None
    share, share_now, both = right / asked, right_now / asked_now, (right + right_now) / (asked + asked_now)
    if share - share_now > 2 * sqrt(both * (1 - both) * (1 / asked + 1 / asked_now)):
        return f"it answers {share_now:.0%} of the questions right, before tuning {share:.0%}"
    return None


def _answers(evaluations: Sequence[Evaluation]) -> tuple[float, int]:
    """Right answers and questions, over all tasks."""
    best: dict[str, tuple[float, int]] = {}
    for evaluation in evaluations:
        for result in evaluation.results:
            if result.metric == STRICT:
                right = (result.value * result.n, result.n)
                best[evaluation.task] = max(best.get(evaluation.task, right), right)
    return sum(right for right, _ in best.values()), sum(asked for _, asked in best.values())
