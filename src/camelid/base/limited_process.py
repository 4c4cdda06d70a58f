"""Runs a function in a child process with limits of memory and time, for work on foreign input.

    call(render, template, variables)   # a string; the child is started at the first call and kept

The child is a fresh interpreter without the caller's environment variables, files or threads. Function and
arguments are pickled to it; only text comes back, so what runs there cannot make the caller run anything.
"""

import atexit
import os
import pickle
import select
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from camelid.base.errors import CamelidError

MOST_BYTES = 1 << 30
"""Limit for the child's address space (where the system has one; a fresh child takes about 0.1 GB)."""
MOST_SECONDS = 20
"""Limit for the processor time of one call."""
PATIENCE = 15
"""Wall time of a call may be this many times its processor time, on a machine that does other things too."""
DONE, REFUSED, OUT_OF_MEMORY, FAILED = range(4)
"""What the child answers: the result, the text of a `CamelidError`, nothing, the text of another error."""
KEPT = ("PATH", "TZ", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_HEAD = struct.Struct("<BQ")
_START = (
    "import sys; sys.path[:] = sys.argv[1:]; from camelid.base.limited_process import serve; "
    "serve(sys.stdin.buffer, sys.stdout.buffer)"
)


def call(function: Callable[..., str], *arguments: object, what: str, seconds: int | None = None) -> str:
    """`function(*arguments)`, computed in the child; everything is pickled, functions by their names.

    what: the subject of messages. seconds: limit for the processor time, by default `MOST_SECONDS`. Raises
    `CamelidError` that the function raised, or that says which limit was exceeded; `RuntimeError` for any
    other error of the function, which is a bug.
    """
    if not sys.executable:  # an embedded interpreter has nothing to start
        return function(*arguments)
    with _lock:
        kind, text = _child().ask(pickle.dumps((function, arguments, seconds or MOST_SECONDS)), what)
    if kind == REFUSED:
        raise CamelidError(text)
    if kind == OUT_OF_MEMORY:
        raise CamelidError(f"{what} needs more than {MOST_BYTES / 2**30:.0f} GiB of memory; it is damaged")
    if kind == FAILED:
        raise RuntimeError(f"{what}: {text}")
    return text


class _Child:
    """One child, and the pipes to it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START, *_paths()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: os.environ[name] for name in KEPT if name in os.environ},
        )
        try:
            assert self.process.stdout is not None
            read(self.process.stdout)
        except EOFError as error:
            reason = self.process.communicate()[1].decode(errors="replace").strip().rpartition("\n")[2]
            raise CamelidError(
                f"a process for foreign input cannot start with {sys.executable}: {reason}"
            ) from error

    def ask(self, request: bytes, what: str) -> tuple[int, str]:
        """Kind and text of the answer; a child that gives none is ended, and the next call starts another."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            write(self.process.stdin, DONE, request)
            self._wait(what)
            kind, text = read(self.process.stdout)
        except (OSError, EOFError) as error:
            self.end()
            status = self.process.wait()
            raise CamelidError(
                f"{what} takes more than {MOST_SECONDS} seconds of processor time or "
                f"{MOST_BYTES / 2**30:.0f} GiB of memory; it is damaged (its process ended with status "
                f"{status})"
            ) from error
        except BaseException:  # such as Ctrl-C between request and answer
            self.end()
            raise
        if kind == OUT_OF_MEMORY:
            self.end()
        return kind, text.decode("utf-8", "surrogatepass")

    def _wait(self, what: str) -> None:
        if not hasattr(select, "poll"):
            return
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)  # type: ignore[arg-type]
        if not poll.poll(MOST_SECONDS * PATIENCE * 1000):
            raise CamelidError(f"{what} takes more than {MOST_SECONDS * PATIENCE} seconds; it is damaged")

    def end(self) -> None:
        """Kills the child."""
        self.process.kill()
        self.process.communicate()


def _paths() -> list[str]:
    """Where modules are found, this package first."""
    package = Path(__file__).resolve().parents[2]
    return [str(package), *(str(Path(path).absolute()) for path in sys.path if path)]


_lock = threading.Lock()
_kept: dict[int, _Child] = {}
"""The child by the process that started it: a fork must not share its parent's pipes."""


def _child() -> _Child:
    child = _kept.get(os.getpid())
    if child is None or child.process.poll() is not None:
        _kept.clear()
        child = _kept[os.getpid()] = _Child()
    return child


@atexit.register
def _end() -> None:
    if child := _kept.pop(os.getpid(), None):
        child.end()


def _renew() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it when the process forked


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def serve(source: IO[bytes], target: IO[bytes]) -> None:
    """The child's loop: answers requests until the parent closes the pipe or is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _limit_memory()
    write(target, DONE, b"")
    while True:
        try:
            _, request = read(source)
        except EOFError:
            return
        kind, text = _answer(request)
        write(target, kind, text)


def _answer(request: bytes) -> tuple[int, bytes]:
    try:
        function, arguments, seconds = pickle.loads(request)
        _limit_time(seconds)
        return DONE, function(*arguments).encode("utf-8", "surrogatepass")
    except MemoryError:
        return OUT_OF_MEMORY, b""
    except CamelidError as error:
        return REFUSED, str(error).encode("utf-8", "surrogatepass")
    except Exception as error:
        return FAILED, repr(error).encode("utf-8", "surrogatepass")


def _limit_memory() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the pipe
    try:
        import resource
    except ModuleNotFoundError:
        return
    for name, most in (("RLIMIT_AS", MOST_BYTES), ("RLIMIT_CORE", 0)):
        _lower(getattr(resource, name), most)


def _limit_time(seconds: int) -> None:
    try:
        import resource
    except ModuleNotFoundError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + seconds)


def _lower(kind: int, most: int) -> None:
    """Sets a soft limit; a lower hard limit of the system stays."""
    import resource

    hard = resource.getrlimit(kind)[1]
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    try:
        resource.setrlimit(kind, (soft, hard))
    except (OSError, ValueError):  # macOS refuses some; the other limits hold
        return


def write(pipe: IO[bytes], kind: int, content: bytes) -> None:
    """One message: its kind, its length, its bytes."""
    pipe.write(_HEAD.pack(kind, len(content)))
    pipe.write(content)
    pipe.flush()


def read(pipe: IO[bytes]) -> tuple[int, bytes]:
    """The next message; raises `EOFError` if the other side is gone."""
    kind, size = _HEAD.unpack(_exactly(pipe, _HEAD.size))
    return kind, _exactly(pipe, size)


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    content = pipe.read(size)
    if len(content) != size:
        raise EOFError
    return content
