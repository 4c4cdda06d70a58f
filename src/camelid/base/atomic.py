"""Atomic writes: files and folders appear complete or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from camelid.base.errors import CamelidError


@contextmanager
def atomic_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yields an empty sibling folder, which is renamed to `target` if the block succeeds and removed if it
    fails.

    Every file is flushed to disk before the rename. Links are followed. Raises `CamelidError` if `target`
    exists, unless it is an empty folder or `replace` is set, and if it is a folder that cannot be replaced: a
    mount point, or the current folder.
    """
    target = refuse_used(target, replace=replace)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        for path in draft.rglob("*"):
            flush_to_disk(path)
        flush_to_disk(draft)
        if target.exists():
            old = target.with_name(f".{target.name}.{os.getpid()}.old")
            target.rename(old)
            draft.rename(target)
            shutil.rmtree(old)
        else:
            draft.rename(target)
        flush_to_disk(target.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yields a path to write, which is renamed to `target` if the block succeeds; raises if it exists."""
    target = _followed(target)
    if target.exists():
        raise CamelidError(f"{target} exists; choose another name or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield draft
        flush_to_disk(draft)
        draft.rename(target)
        flush_to_disk(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def refuse_used(target: Path, *, replace: bool = False) -> Path:
    """The folder that `atomic_folder` would write, links followed; raises `CamelidError` where it would."""
    target = _followed(target)
    if os.path.ismount(target):
        raise CamelidError(f"{target} is a mount point, which cannot be replaced; give a folder inside it")
    if target.exists() and target.samefile(os.curdir):
        raise CamelidError(
            f"{target} is the current folder, which cannot be replaced; give a folder inside it"
        )
    if target.exists() and not replace and (not target.is_dir() or any(target.iterdir())):
        raise CamelidError(f"{target} exists and is not empty; choose another folder or remove it")
    return target


def _followed(target: Path) -> Path:
    """The path with links resolved: renaming onto a link would replace the link itself."""
    if "\0" in str(target):
        raise CamelidError(f"{str(target)!r} contains a zero byte, which a path cannot; choose another name")
    return Path(os.path.realpath(target))


def write_text_atomically(target: Path, text: str) -> None:
    """Replaces `target` with a file of this text, atomically."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        draft.write_text(text, encoding="utf-8")
        flush_to_disk(draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Waits until the contents of a file or folder are on disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
