"""The command line: finds the verb, calls it and returns the exit code.

    camelid VERB [MODEL|RECIPE.yaml] --dotted.flag value

Each verb is a module of this folder, imported only when it is called, so that help appears at once. Its
parameters are its flags (`cli.flags`), and it calls one function of a room.

    0  success        1  the job failed (`CamelidError`)        2  the call was wrong        130  Ctrl-C
"""

import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from typing import Any

from camelid.base.errors import CamelidError, WrongCall, nearest
from camelid.base.logs import leave_terminal, show_log
from camelid.base.version import __version__
from camelid.cli.table import VERBS

logger = logging.getLogger(__name__)

INTERRUPTED = 130
OUT_OF_MEMORY = ("can't allocate memory", "CUDA out of memory", "size calculation overflowed")
"""What torch says, in errors of several classes, where a tensor does not fit, or never could."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; errors for people go to standard error without a
    traceback."""
    if argv is None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as SIGHUP is under nohup
                signal.signal(number, _terminated)
        _escape_what_cannot_be_shown()
    arguments = list(sys.argv[1:] if argv is None else argv)
    show_log()
    debug = "--debug" in arguments or os.environ.get("CAMELID_DEBUG", "") not in ("", "0")
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        _dispatch(arguments)
        if sys.stdout is not None:  # closed, as by `>&-`
            sys.stdout.flush()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else 2
    except KeyboardInterrupt as interrupt:
        logger.error(str(interrupt) or "interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe (`camelid ... | head`): Python must not flush again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        message = _explain(error)
        if debug or message is None:
            raise
        logger.error(message)
        return 2 if isinstance(error, WrongCall) else 1
    return 0


def _escape_what_cannot_be_shown() -> None:
    """Writes characters that the output's encoding does not have as escapes such as \\xe9; by default that is
    an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _terminated(number: int, frame: object) -> None:
    """Ends as Ctrl-C does, so that no half-written file stays.

    Batch systems and containers stop jobs with SIGTERM; a terminal that closes sends SIGHUP.
    """
    if number == signal.SIGHUP:
        leave_terminal()
    raise SystemExit(128 + number)


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _print_help()
    elif arguments[0] in ("-V", "--version", "version"):
        print(f"camelid {__version__}")
    else:
        verb, *rest = arguments
        if family := [name for name in VERBS if name.startswith(f"{verb} ")]:
            second = rest.pop(0) if rest else ""
            if second in ("", "-h", "--help"):
                _print_help(family)
                return
            verb = f"{verb} {second}"
        if verb not in VERBS:
            raise WrongCall(
                f"there is no command {verb!r}; {nearest(verb, VERBS, otherwise='commands:', cutoff=0.5)}. "
                "`camelid --help` lists all commands"
            )
        from camelid.cli.flags import call

        call(_load(VERBS[verb].target), prog=f"camelid {verb}", arguments=rest)


def _load(target: str) -> Callable[..., Any]:
    module, name = target.split(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def _explain(error: Exception) -> str | None:
    """The message for a person, or None for a bug, whose traceback is shown."""
    # safetensors reports a full disk with its own error class and the system's message.
    full = "No space left on device" in str(error) or "Disk quota exceeded" in str(error)
    if isinstance(error, CamelidError):
        return f"{error}; free some space and run the same command again" if full else str(error)
    if full:
        where = getattr(error, "filename", None)
        writing = f" (writing {where})" if where else ""
        return f"the disk is full{writing}; free some space and run the same command again"
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        needed = str(error).splitlines()[0] if str(error) else "the system has no more"
        return f"out of memory ({needed}); use a smaller model, a shorter context or fewer rows at a time"
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.filename}: {error.strerror.lower()}"
    return None


def _print_help(names: Collection[str] = VERBS) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]camelid {__version__}[/bold]  language models from raw text to a local assistant\n")
    console.print("usage: camelid VERB \\[MODEL|RECIPE.yaml] --dotted.flag value\n")
    table = Table.grid(padding=(0, 3, 0, 0))
    group = None
    for name, verb in ((name, VERBS[name]) for name in names):
        if verb.group != group:
            table.add_row(f"[bold]{verb.group}[/bold]" if group is None else f"\n[bold]{verb.group}[/bold]")
            group = verb.group
        table.add_row(f"  [cyan]{name}[/cyan]", verb.help)
    console.print(table)
    console.print("\n`camelid VERB --help` shows a command's flags; --debug shows the traceback of an error.")
