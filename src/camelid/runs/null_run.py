"""The run as other processes than the main one see it: they do not write to the folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from camelid.runs.run import Checkpoint, Run


class NullRun(Run):
    """A run that neither writes to its folder nor resumes from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""

    def close(self) -> None:
        """Nothing is held open."""

    def log(self, record: Mapping[str, Any]) -> None:
        """The main process logs."""

    def save_checkpoint(self, step: int, write: Callable[[Path], None], *, keep: int = 2) -> None:
        """The main process saves."""

    def resume(self) -> Checkpoint | None:
        """The main process broadcasts its checkpoint to the others."""
        return None
