"""`camelid report`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional


def report(run: Annotated[Path, Positional]) -> None:
    """Rewrites the report.html of a training run from its metrics, or the answers.html of evaluations.

    Args:
        run: the folder of a run, or of evaluations
    """
    from camelid.workflows.rebuild import rebuild

    rebuild(run)
