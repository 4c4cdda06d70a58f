"""`camelid report`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional


def report(run: Annotated[Path, Positional]) -> None:
    """Write a training run's report.html again from its metrics.

    Args:
        run: folder of the run
    """
    from camelid.report.training import rebuild

    rebuild(run)
