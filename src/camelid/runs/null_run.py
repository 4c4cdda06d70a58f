"""The run of the processes beside the main one, which leave the folder to it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from camelid.runs.run import Checkpoint, Run


class NullRun(Run):
    """A run that knows its folder, and neither writes there nor resumes from there."""

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
        """The main process tells the others where it resumes."""
        return None
