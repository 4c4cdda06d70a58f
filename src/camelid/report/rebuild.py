"""`camelid report`: the page of a training run, or of the evaluations in a folder."""

from pathlib import Path

from camelid.base.errors import WrongCall
from camelid.report.answers import write_answers
from camelid.report.page import write_report
from camelid.report.training import training_report
from camelid.runs.run import IDENTITY


def rebuild(folder: Path) -> None:
    """Rewrites the report.html of a run folder, or the answers.html of an evaluation's, and prints its path.

    Raises `WrongCall` if the folder is neither.
    """
    if (folder / IDENTITY).is_file():
        print(write_report(training_report(folder), folder))
    elif page := write_answers(folder):
        print(page)
    else:
        raise WrongCall(
            f"{folder} is not a run folder: {IDENTITY} is missing; "
            "nor has it lines of an evaluation (*.jsonl)"
        )
