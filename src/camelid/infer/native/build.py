"""Compiling `decoder.c` for this machine's processor, once, where there is a C compiler."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from camelid.errors import CamelidError
from camelid.home import camelid_home

SOURCES = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".c", ".h"))
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fPIC", "-shared", "-pthread", "-std=gnu11")


class NoCompilerError(CamelidError):
    """This machine has no C compiler, or one that cannot compile the decoder."""


@cache
def library() -> ctypes.CDLL:
    """The compiled decoder, from CAMELID_HOME/native if it was compiled before for this source and processor.

    The compiler is CC, or the first of cc, gcc and clang. Raises `NoCompilerError`.
    """
    compiler = _compiler()
    identity = [
        *(path.read_text(encoding="utf-8") for path in SOURCES),
        *compiler,
        *FLAGS,
        platform.machine(),
        _processor(),
    ]
    digest = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:20]
    target = camelid_home() / "native" / f"decoder-{digest}.so"
    if not target.is_file():
        _compile(compiler, target)
    try:
        return ctypes.CDLL(str(target))
    except OSError as error:
        raise NoCompilerError(f"{target} cannot be loaded: {error}") from error


def _compiler() -> list[str]:
    if chosen := os.environ.get("CC"):
        return shlex.split(chosen)
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return [path]
    raise NoCompilerError("there is no C compiler (cc, gcc or clang)")


def _compile(compiler: list[str], target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            draft = Path(folder) / target.name
            command = [
                *compiler,
                *FLAGS,
                "-o",
                str(draft),
                *(str(path) for path in SOURCES if path.suffix == ".c"),
                "-lm",
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            if done.returncode:
                raise NoCompilerError(f"{shlex.join(command)} failed: {done.stderr.strip()[:1000]}")
            draft.replace(target)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCompilerError(f"the decoder cannot be compiled: {error}") from error


def _processor() -> str:
    """What this processor can do, so that a home shared by several machines keeps a library for each."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
