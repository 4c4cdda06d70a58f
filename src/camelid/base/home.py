"""Where Camelid keeps what outlives a command: CAMELID_HOME, by default ~/.cache/camelid."""

import os
from pathlib import Path


def camelid_home() -> Path:
    """The base directory; it need not exist yet."""
    return Path(os.environ.get("CAMELID_HOME") or Path.home() / ".cache" / "camelid")
