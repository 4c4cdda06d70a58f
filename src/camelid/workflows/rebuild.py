"""`camelid report`: the page of a run, as its stage wrote it, or of the evaluations in a folder."""

from collections.abc import Callable, Mapping
from pathlib import Path

from camelid.align.best_of_n_report import best_of_n_report
from camelid.align.policy_report import policy_report
from camelid.align.reward_report import reward_report
from camelid.base.errors import WrongCall
from camelid.base.json import read_table
from camelid.report.answers import write_answers
from camelid.report.page import write_report
from camelid.report.training import training_report
from camelid.report.values import Report
from camelid.runs.run import IDENTITY

ALIGNED: Mapping[str, Callable[[Path], Report]] = {
    "reward": reward_report,
    "ppo": policy_report,
    "grpo": policy_report,
    "best-of-n": best_of_n_report,
}
"""The pages of methods of `camelid align` that show more than curves of training."""
SWEEP = "scale sweep"


def rebuild(folder: Path) -> None:
    """Rewrites the report.html of a run folder, or the answers.html of an evaluation's, and prints its path.

    Raises `WrongCall` if the folder is neither, or is a sweep's.
    """
    if (folder / IDENTITY).is_file():
        print(write_report(_report_of(folder), folder))
    elif page := write_answers(folder):
        print(page)
    else:
        raise WrongCall(
            f"{folder} is not a run folder: {IDENTITY} is missing; "
            "nor has it lines of an evaluation (*.jsonl)"
        )


def _report_of(folder: Path) -> Report:
    recipe = read_table(folder / IDENTITY)["recipe"]
    if recipe["stage"] == SWEEP:
        raise WrongCall(
            f"{folder} is a sweep, which has no curves of its own: give a run of its rungs/, or write its "
            f"page with camelid scale sweep {folder / 'recipe.yaml'}"
        )
    return ALIGNED.get(recipe.get("method", ""), training_report)(folder)
