"""Atomic writes: files and folders appear complete or not at all."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from camelid.base.errors import CamelidError, refuse_not_utf8
from camelid.base.lock import HeldError, lock_of

LEFTOVER = re.compile(r"\.(?P<target>.+)\.(?:[0-9a-f]+\.(?:partial|old)|lock)", re.DOTALL)
"""Names of drafts, replaced folders and locks, which only a killed writer leaves."""


@contextmanager
def atomic_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yields an empty sibling folder, which is renamed to `target` if the block succeeds and removed if it
    fails.

    Every file is flushed to disk before the rename. Links are followed. What a killed writer of `target` left
    behind is removed first. Raises `CamelidError` if another process is writing `target`, if it exists,
    unless it is an empty folder or `replace` is set, and if it is a folder that cannot be replaced: a mount
    point, or the current folder.
    """
    target = refuse_used(target, replace=replace)
    with _draft(target) as draft:
        refuse_used(target, replace=replace)  # again: another process may just have finished it
        draft.mkdir()
        yield draft
        for path in draft.rglob("*"):
            flush_to_disk(path)
        flush_to_disk(draft)
        if target.exists():
            old = draft.with_suffix(".old")
            target.rename(old)
            draft.rename(target)
            shutil.rmtree(old)
        else:
            draft.rename(target)
        flush_to_disk(target.parent)


@contextmanager
def atomic_file(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yields a path to write, which is renamed to `target` if the block succeeds.

    Raises `CamelidError` if another process is writing `target`, or if it exists and `replace` is not set.
    """
    target = _followed(target)
    _refuse_existing(target, replace)
    with _draft(target) as draft:
        _refuse_existing(target, replace)
        yield draft
        flush_to_disk(draft)
        draft.replace(target)
        flush_to_disk(target.parent)


def write_text_atomically(target: Path, text: str) -> None:
    """Replaces `target` with a file of this text, atomically; waits while another process writes it."""
    with _draft(target, wait=True) as draft:
        # Paths that are not UTF-8 have lone surrogates; escaped as \udcff, JSON reads them back.
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")
        flush_to_disk(draft)
        draft.replace(target)


def is_leftover(path: Path) -> bool:
    """Whether a name is that of a draft, a replaced folder or a lock, which only a killed writer leaves."""
    return LEFTOVER.fullmatch(path.name) is not None


def remove_leftover(path: Path) -> None:
    """Removes a file, a link or a folder, as far as that is possible."""
    with suppress(OSError):
        path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)


@contextmanager
def _draft(target: Path, *, wait: bool = False) -> Iterator[Path]:
    """A name beside `target` that no other process uses, also on another machine; what is there afterwards is
    removed.

    While `target` is locked, drafts of it that other processes left are removed too: they are dead.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with lock_of(target.with_name(f".{target.name}.lock"), wait=wait) as has_locks:
            if has_locks:
                _remove_drafts(target)
            try:
                yield draft
            finally:
                remove_leftover(draft)  # without an error of its own, which would hide the first one
    except HeldError as held:
        raise CamelidError(
            f"{target} is being written by process {held}; wait for it or choose another name"
        ) from None


def _remove_drafts(target: Path) -> None:
    for path in target.parent.iterdir():
        found = LEFTOVER.fullmatch(path.name)
        if found is not None and found["target"] == target.name and path.suffix != ".lock":
            remove_leftover(path)


def _refuse_existing(target: Path, replace: bool) -> None:
    if target.exists() and not replace:
        raise CamelidError(f"{target} exists; choose another name or remove it")


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
    followed = Path(os.path.realpath(target))
    refuse_not_utf8(followed)
    return followed


def flush_to_disk(path: Path) -> None:
    """Waits until the contents of a file or folder are on disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
