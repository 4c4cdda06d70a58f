"""Python files of users: a task, which is `TASK` or, for rows that come with --data, `DATASET`, and
rewards."""

import functools
import importlib.util
import traceback
from pathlib import Path
from types import ModuleType

from camelid.base.errors import CamelidError

NAMES = ("TASK", "DATASET")


def defined_in(path: Path) -> object:
    """The value of `TASK` or `DATASET` in a Python file, which is executed once.

    Raises `CamelidError` with file and line if the file fails, and if it defines neither or both.
    """
    module = executed(path)
    found = [name for name in NAMES if hasattr(module, name)]
    if len(found) != 1:
        raise CamelidError(
            f"{path} defines {' and '.join(found) or 'neither'}; a task file must define either TASK, a "
            "camelid.tasks.task.Task, or DATASET, a camelid.tasks.reasoning.Dataset whose rows are passed as "
            "--data"
        )
    value: object = getattr(module, found[0])
    return value


def executed(path: Path) -> ModuleType:
    """The module of a Python file, which is executed once; raises `CamelidError` with file and line."""
    return _executed(path.resolve(), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _executed(path: Path, changed: int) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"camelid_task_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CamelidError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except CamelidError as error:
        raise CamelidError(f"{place_of(error, path)}: {error}") from error
    except Exception as error:
        raise CamelidError(f"{place_of(error, path)}: {type(error).__name__}: {error}") from error
    return module


def place_of(error: BaseException, path: Path) -> str:
    """The file with the last of its lines on the way to an error."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{path}:{error.lineno}"
    lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)
