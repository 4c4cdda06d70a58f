"""Compiling `decoder.c` for this machine's processor, once, where there is a C compiler."""

import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.home import private_folder, refuse_foreign
from camelid.engine.native.structures import FUNCTIONS

SOURCES = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".c", ".h"))
FLAGS = ("-O3", "-fno-math-errno", "-fPIC", "-shared", "-pthread", "-std=gnu11")
TARGETS = {
    "native": ("-march=native",),
    "avx2": ("-mavx2", "-mfma", "-mf16c", "-mtune=native"),
    "baseline": ("-mtune=native",),
}
"""Values of CAMELID_NATIVE_TARGET, and what the compiler may then use: of `baseline`, what every processor
has."""
DRAFT_PREFIX = "draft-"
ABANDONED_SECONDS = 600
"""Drafts older than this belong to a process that was killed: compiling takes 120 seconds at most."""


class NoCompilerError(CamelidError):
    """This machine has no C compiler, or one that cannot compile the decoder."""


def library() -> ctypes.CDLL:
    """The compiled decoder, from CAMELID_HOME/native if it was compiled before for this source and processor.

    The compiler is CC, or the first of cc, gcc and clang. Raises `NoCompilerError`, without trying a second
    time.
    """
    outcome = _loaded()
    if isinstance(outcome, NoCompilerError):
        raise outcome
    return outcome


@cache
def _loaded() -> "ctypes.CDLL | NoCompilerError":
    try:
        compiler = _compiler()
        folder = private_folder("native")
        _remove_abandoned(folder)
        target = folder / f"decoder-{_digest(compiler)}.so"
        if not target.is_file():
            _compile(compiler, target)
        try:
            return _load(target)
        except (OSError, AttributeError):  # damaged, as by a disk that was full or a machine that lost power
            target.unlink(missing_ok=True)
            _compile(compiler, target)
            return _load(target)
    except WrongCall:
        raise
    except NoCompilerError as error:
        return error
    except (CamelidError, OSError, RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
        return NoCompilerError(f"the decoder cannot be compiled or loaded: {error}")


def _load(target: Path) -> ctypes.CDLL:
    refuse_foreign(target)
    code = ctypes.CDLL(str(target))
    for name, (returned, *taken) in FUNCTIONS.items():
        function = getattr(code, name)
        function.restype, function.argtypes = returned, taken
    return code


def _digest(compiler: list[str]) -> str:
    sources = (path.read_text(encoding="utf-8") for path in SOURCES)
    identity = (*sources, *compiler, *_flags(), platform.machine(), _processor())
    return hashlib.sha256("\0".join(identity).encode()).hexdigest()[:20]


def _flags() -> tuple[str, ...]:
    target = os.environ.get("CAMELID_NATIVE_TARGET") or "native"
    if target not in TARGETS:
        raise WrongCall(f"CAMELID_NATIVE_TARGET is {target!r}; it can be {', '.join(TARGETS)}")
    return *TARGETS[target], *FLAGS


def _remove_abandoned(folder: Path) -> None:
    """Removes drafts that a killed process left, also those of older versions."""
    for draft in (*folder.glob(f"{DRAFT_PREFIX}*"), *folder.glob("tmp*")):
        with contextlib.suppress(OSError):
            if draft.is_dir() and time.time() - draft.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(draft)


def _compiler() -> list[str]:
    if chosen := os.environ.get("CC"):
        return shlex.split(chosen)
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return [path]
    raise NoCompilerError("there is no C compiler (cc, gcc or clang)")


def _compile(compiler: list[str], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=DRAFT_PREFIX) as folder:
        draft = Path(folder) / target.name
        sources = [str(path) for path in SOURCES if path.suffix == ".c"]
        command = [*compiler, *_flags(), "-o", str(draft), *sources, "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120)
        if done.returncode:
            raise NoCompilerError(
                f"{shlex.join(compiler)} cannot compile the decoder: {done.stderr.strip()[:500]}"
            )
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(target)


def _processor() -> str:
    """What this processor can do, so that a home shared by several machines keeps a library for each."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
