"""Locks on places in the file system, which the system releases when their holder dies."""

import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF})
"""What flock(2) answers where a file system has no locks, such as some network and FUSE mounts."""


class HeldError(Exception):
    """Another process holds the lock; the message names it."""


@contextmanager
def lock_of(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Holds the lock `path`, a file that is made for it and removed afterwards.

    Yields whether the file system has locks at all; if not, nothing is held. Raises `HeldError` if another
    process holds it, unless `wait` is set.
    """
    descriptor, has_locks = _locked(path, wait)
    try:
        yield has_locks
    finally:
        # Removed while it is held: whoever waits for it sees that its file is gone, and makes a new one.
        with suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def lock_file(descriptor: int, *, wait: bool = False) -> bool:
    """Locks an open file until it is closed, and writes this process's name into it.

    Returns False where the file system has no locks. Raises `HeldError` with the holder's name if another
    process holds it, unless `wait` is set.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise HeldError(os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "unknown") from None
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        return False
    with suppress(OSError):  # a full disk: the name is only for messages
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} on {platform.node()}\n".encode(), 0)
    return True


def _locked(path: Path, wait: bool) -> tuple[int, bool]:
    while True:
        descriptor = _opened(path)
        try:
            has_locks = lock_file(descriptor, wait=wait)
            if not has_locks or _is_at(path, descriptor):
                return descriptor, has_locks
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder has removed it meanwhile


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:  # left by another user's process
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
