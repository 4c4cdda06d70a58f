"""One run of several processes: the main one writes its folder, the others do not."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from camelid.recipes.recipe import Recipe
from camelid.runs.provenance import Parent
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

    def save_checkpoint(
        self, step: int, write: Callable[[Path], Mapping[str, str] | None], *, keep: int = 2
    ) -> None:
        """The main process saves."""

    def resume(self) -> Checkpoint | None:
        """The main process broadcasts its checkpoint to the others."""
        return None


def shared_run(
    recipe: Recipe, is_main: bool, *, parents: Iterable[Parent] = (), data: Mapping[str, str] | None = None
) -> Run:
    """The run in the main process, see `Run.create`, and a `NullRun` in the others."""
    return Run.create(recipe.out, recipe, parents=parents, data=data) if is_main else NullRun(recipe.out)
