"""The run folder of one stage: recipe, metrics and checkpoints; it can resume after a kill at any moment.

    run.json                       what this run is: versions, recipe, parents, digests of its data
    recipe.yaml                    the resolved recipe, which can be used again
    metrics.jsonl                  one JSON object per step
    checkpoints/step-00000100/     state to resume from, with digest.json: the sha256 of every file
    model/, report.html            the results

    with Run.create(out, recipe, data=digests) as run:
        checkpoint = run.resume()                              # None: start at step 1
        for step in range(...):
            run.log({"step": step, "loss": loss})
            run.save_checkpoint(step, write_state)             # after the metrics of this step

Every file and folder is written atomically, so `kill -9` loses only the steps since the last checkpoint.
"""

import json
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from camelid.base.atomic import atomic_folder, flush_to_disk, is_leftover, remove_leftover
from camelid.base.digest import digest_file
from camelid.base.errors import CamelidError, WrongCall, refuse_not_utf8
from camelid.base.json import json_line, read_table, whole_lines, write_json
from camelid.base.lock import HeldError, lock_file
from camelid.recipes.recipe import Recipe, save_recipe
from camelid.recipes.yaml import dotted_keys
from camelid.runs.licences import Licence
from camelid.runs.prediction import PREDICTION
from camelid.runs.provenance import Parent, provenance

logger = logging.getLogger(__name__)

LOCK, IDENTITY, RECIPE, METRICS, CHECKPOINTS = (
    "run.lock",
    "run.json",
    "recipe.yaml",
    "metrics.jsonl",
    "checkpoints",
)
TOKENS, SOURCES = "tokens", "sources.json"
ROWS = "rows.json"
"""The file of a run folder with the digests of its rows."""
MADE = (
    *(LOCK, IDENTITY, RECIPE, CHECKPOINTS, TOKENS, SOURCES, ROWS, PREDICTION),
    *("tensorboard", "wandb", "wandb-id.txt"),
)
"""What can stand in the folder of a run before its first metrics."""
DIGESTS = "digest.json"
ELSEWHERE, WITHOUT_LINE = "give another folder with --out", "remove the line to continue"


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` updates."""

    step: int
    folder: Path


class Run:
    """A run folder, opened for writing by one process; a context manager, see `Run.create`.

    If a `CamelidError` ends a new run before its first metrics, what it made is removed, so that the same
    command works once the data is fixed; unless other work stands there, which that command goes on from.
    """

    def __init__(self, folder: Path, lock: TextIO, fresh: bool, made_folder: bool = False) -> None:
        self.folder = folder
        self._lock = lock
        self._fresh = fresh
        self._made_folder = made_folder
        self._metrics: TextIO | None = None

    @classmethod
    def create(
        cls,
        out: Path,
        recipe: Recipe,
        *,
        parents: Iterable[Parent] = (),
        data: Mapping[str, str] | None = None,
        date: str | None = None,
        licences: Iterable[Licence] = (),
    ) -> Self:
        """Starts a run in a new folder, or resumes this run if `out` contains it.

        `data` maps each input's name to its digest (`digest_paths`); `date` and `licences`, of the
        data, are recorded as given. Raises
        `WrongCall` if another process is using `out`, if it contains anything else, or this run with another
        recipe or data. Settings that change no result (`recipes.settings.FREE`) may differ; recipe.yaml has
        their newest values.
        """
        identity = provenance(recipe=recipe, parents=parents, data=data, date=date, licences=licences)
        refuse_not_utf8(out.resolve())
        refuse_foreign(out)
        made_folder = not out.exists()
        out.resolve().mkdir(parents=True, exist_ok=True)  # where a link leads, if it is one
        lock = _lock(out)
        try:
            _remove_leftovers(out)
            fresh = not (out / IDENTITY).exists()
            if fresh:
                write_json(out / IDENTITY, identity)
            else:
                _refuse_changes(out, identity, dotted_keys(type(recipe), free=True))
            save_recipe(recipe, out / RECIPE)
        except BaseException:
            lock.close()
            raise
        return cls(out, lock, fresh, made_folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing fails too where a full disk ended the run: no second error may hide the first one.
        with suppress(OSError) if error is not None else nullcontext():
            if self._fresh and isinstance(error, CamelidError) and not (self.folder / METRICS).exists():
                self._remove_what_was_made()
        with suppress(OSError) if error is not None else nullcontext():
            self.close()

    def _remove_what_was_made(self) -> None:
        """Leaves the folder as it was found, unless work stands in it that the same call can go on from."""
        held = [*self.folder.iterdir()]
        if not all(path.name in MADE or is_leftover(path) for path in held):
            return
        for path in held:
            remove_leftover(path)
        if self._made_folder:
            self.folder.resolve().rmdir()  # fails if something else was put there meanwhile

    def close(self) -> None:
        """Releases the folder for other processes."""
        metrics, self._metrics = self._metrics, None
        try:
            if metrics is not None:
                metrics.close()
        finally:
            self._lock.close()

    @property
    def identity(self) -> dict[str, Any]:
        """Versions, recipe, parents and data digests of this run."""
        return read_table(self.folder / IDENTITY, remedy=ELSEWHERE)

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl; `record` must have `step`."""
        if self._metrics is None:
            self._metrics = (self.folder / METRICS).open("a", encoding="utf-8")
        self._metrics.write(json_line(record))
        self._metrics.flush()

    def save_checkpoint(
        self, step: int, write: Callable[[Path], Mapping[str, str] | None], *, keep: int = 2
    ) -> None:
        """Saves the state after `step` with `write(folder)`, then removes all but the `keep` newest
        checkpoints.

        write: may return the sha256 of files by their names, which are not computed again. Log the metrics of
        `step` first: resuming drops all metrics after the checkpoint's step.
        """
        if self._metrics is not None:
            os.fsync(self._metrics.fileno())
        target = _checkpoint_folder(self.folder, step)
        with atomic_folder(target, replace=True) as draft:
            digests = dict(write(draft) or {})
            for path in _files(draft):
                if (name := str(path.relative_to(draft))) not in digests:
                    digests[name] = digest_file(path)
            write_json(draft / DIGESTS, digests)
        for old in list_checkpoints(self.folder)[:-keep]:
            _remove(old.folder)

    def resume(self) -> Checkpoint | None:
        """The newest intact checkpoint, with everything after it removed; None if the run starts over.

        A damaged checkpoint is logged, and the one before it used.
        """
        checkpoint = latest_checkpoint(self.folder)
        step = 0 if checkpoint is None else checkpoint.step
        damaged = [other for other in list_checkpoints(self.folder) if other.step > step]
        for other in damaged:
            _remove(other.folder)
        if damaged and checkpoint is None:
            logger.warning("no intact checkpoint is left: the run starts over")
        # A run that starts over measures its validation loss before the first step again.
        cut_metrics(self.folder / METRICS, -1 if checkpoint is None else step)
        return checkpoint


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints of a run folder, oldest first, intact or damaged."""
    found = (folder / CHECKPOINTS).glob("step-*")
    return sorted(
        (Checkpoint(int(path.name.removeprefix("step-")), path) for path in found), key=lambda c: c.step
    )


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose files all match their digests; damaged ones are logged."""
    for checkpoint in reversed(list_checkpoints(folder)):
        damage = find_damage(checkpoint.folder)
        if damage is None:
            return checkpoint
        logger.warning(f"checkpoint {checkpoint.folder.name} is damaged ({damage}): using the one before")
    return None


def find_damage(folder: Path) -> str | None:
    """A description of the damage to a checkpoint folder; None if every file matches its digest."""
    if not (folder / DIGESTS).is_file():
        return f"{DIGESTS} is missing"
    try:
        digests = read_table(folder / DIGESTS)
    except CamelidError:
        return f"{DIGESTS} is not JSON"
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if digest_file(path) != digest:
            return f"{name} differs from its digest"
    return None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a last line cut short by a kill is ignored."""
    return [record for record, _ in whole_lines(path, remedy=WITHOUT_LINE)]


def cut_metrics(path: Path, step: int) -> None:
    """Truncates metrics.jsonl after the last record of `step`, so that a resumed run has each step once."""
    if path.exists():
        records = whole_lines(path, remedy=WITHOUT_LINE)
        end = max((end for record, end in records if record["step"] <= step), default=0)
        os.truncate(path, end)
        flush_to_disk(path)


def refuse_foreign(out: Path) -> None:
    """Raises `WrongCall` unless `out` is a run, empty, or left over from a run killed as it started."""
    if out.exists() and not out.is_dir():
        raise WrongCall(f"{out} is a file; give another folder with --out")
    if not out.exists() or (out / IDENTITY).exists():
        return
    others = [path.name for path in out.iterdir() if path.name != LOCK and not is_leftover(path)]
    if others:
        shown = ", ".join(sorted(others)[:5])
        raise WrongCall(
            f"{out} is neither empty nor a run (it contains {shown}); give another folder with --out"
        )


def _refuse_changes(out: Path, now: Mapping[str, Any], free: Iterable[str]) -> None:
    before = read_table(out / IDENTITY, remedy=ELSEWHERE)
    ignored = {f"recipe.{key}" for key in ("out", *free)}
    changes = [
        f"  {key}: {_short(old)} there, {_short(new)} now"
        for part in ("recipe", "parents", "data")
        for key, old, new in _differences(before.get(part), now.get(part), part)
        if key not in ignored
    ]
    if changes:
        raise WrongCall(
            f"{out} contains another run; these differ:\n"
            + "\n".join(changes)
            + f"\nGive another folder with --out, or resume that run with its own recipe, {out / RECIPE}"
        )


def _differences(old: Any, new: Any, key: str) -> Iterable[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(name), new.get(name), f"{key}.{name}")
    elif old != new:
        yield key, old, new


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _lock(out: Path) -> TextIO:
    """The folder's lock file, locked until it is closed or the process dies."""
    lock = (out / LOCK).open("a+", encoding="utf-8")
    try:
        if not lock_file(lock.fileno()):
            logger.warning(f"{out} is on a file system without locks: do not start this run twice at a time")
    except HeldError as held:
        lock.close()
        raise WrongCall(f"{out} is in use by process {held}; wait for it or give another --out") from None
    return lock


def _remove_leftovers(out: Path) -> None:
    for folder in (out, out / CHECKPOINTS, out / TOKENS):
        for path in filter(is_leftover, folder.iterdir() if folder.is_dir() else ()):
            remove_leftover(path)


def _remove(folder: Path) -> None:
    """Removes a folder; if killed half-way, it is a leftover and not a damaged checkpoint."""
    leftover = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.old")
    folder.rename(leftover)
    remove_leftover(leftover)


def _checkpoint_folder(folder: Path, step: int) -> Path:
    return folder / CHECKPOINTS / f"step-{step:08d}"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
