"""The seed tasks of self-instruct: 175 of our own in `seeds.jsonl`, or a file of the same shape."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from camelid.base.errors import CamelidError
from camelid.data.read.files import format_of
from camelid.data.read.rows import BadRows, Row, rows_of

LEAST = 8
"""Seed tasks that a prompt needs."""


@dataclass(frozen=True)
class Instance:
    """One input of a task, which may be empty, and its output."""

    input: str
    output: str


@dataclass(frozen=True)
class SeedTask:
    """An instruction with its instances; classification: whether its outputs are few given labels."""

    id: str
    instruction: str
    instances: tuple[Instance, ...]
    is_classification: bool


def read_seeds(path: Path | None = None) -> list[SeedTask]:
    """The tasks in a file of rows with `id`, `instruction`, `instances` (of `input` and `output`) and
    `is_classification`; without a path our own.

    Raises `CamelidError` on a row without one of them, and on too few tasks of a kind.
    """
    if path is None:
        with as_file(files("camelid.makers") / "seeds.jsonl") as own:
            return _read(own)
    return _read(path)


def digest_of(tasks: Sequence[SeedTask]) -> str:
    """Sha256 of the tasks."""
    return hashlib.sha256(repr(tasks).encode()).hexdigest()


def _read(path: Path) -> list[SeedTask]:
    tasks = [_task(row, where) for row, where in rows_of(path, format_of(path), BadRows(skip=False))]
    kinds = {kind: [task for task in tasks if task.is_classification is kind] for kind in (True, False)}
    for kind, found in kinds.items():
        if len(found) < LEAST:
            named = "classification tasks" if kind else "tasks that are not classification"
            raise CamelidError(f"{path}: {len(found)} {named}; self-instruct needs at least {LEAST}")
    return tasks


def _task(row: Row, where: str) -> SeedTask:
    kinds = {"id": str, "instruction": str, "instances": list, "is_classification": bool}
    for name, kind in kinds.items():
        if not isinstance(row.get(name), kind) or row[name] in ("", []):
            raise CamelidError(f"{where}: a seed task needs {name!r}, as {kind.__name__}, not empty")
    instances = _instances(row["instances"], where)
    return SeedTask(row["id"], row["instruction"], instances, row["is_classification"])


def _instances(values: Sequence[object], where: str) -> tuple[Instance, ...]:
    found = []
    for value in values:
        texts = [value.get(key) for key in ("input", "output")] if isinstance(value, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise CamelidError(f"{where}: each of `instances` must be an object with `input` and `output`")
        found.append(Instance(*texts))
    return tuple(found)
