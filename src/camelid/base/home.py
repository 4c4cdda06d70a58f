"""The folder for files kept between commands: CAMELID_HOME, by default ~/.cache/camelid."""

import os
from pathlib import Path


def camelid_home() -> Path:
    """The folder, which may not exist yet."""
    return Path(os.environ.get("CAMELID_HOME") or Path.home() / ".cache" / "camelid")
