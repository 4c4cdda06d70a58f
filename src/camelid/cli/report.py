"""`camelid report`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional


def report(run: Annotated[Path, Positional]) -> None:
    """Rewrites the report.html of a training run from its metrics.

    Args:
        run: the run's folder
    """
    from camelid.report.training import rebuild

    rebuild(run)
