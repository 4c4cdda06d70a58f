"""The command line: one table from verb to function, and the exit codes.

    camelid VERB [MODEL|RECIPE.yaml] --dotted.flag value

A verb's function is imported when it is called, so that help answers at once. Its typed arguments are its flags;
where it takes one `Recipe`, the flags are the recipe's keys and override the YAML file that may stand first.

    0  it worked        1  the job failed (`CamelidError`)        2  the call was wrong        130  Ctrl-C
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.version import __version__


class Verb(NamedTuple):
    """One command: the group it is shown in, where its function lives, and what it does."""

    group: str
    target: str
    help: str


VERBS: dict[str, Verb] = {
    "quickstart": Verb(
        "Start here",
        "camelid.workflows.quickstart.verb:quickstart",
        "raw text to a model you can talk to, in minutes",
    ),
    "tokenizer": Verb("Make a model", "camelid.train.stages:tokenizer", "learn a vocabulary from text"),
    "pretrain": Verb("Make a model", "camelid.train.stages:pretrain", "train a new model on raw text"),
    "tune": Verb("Make a model", "camelid.train.stages:tune", "teach a model to answer, from conversations"),
    "quantize": Verb(
        "Make a model",
        "camelid.workflows.quantize:quantize",
        "make a model small: 2, 3, 4 or 8 bits a weight",
    ),
    "import": Verb(
        "Make a model",
        "camelid.formats.importing:import_model",
        "turn a GGUF file or Meta's folder into a model folder",
    ),
    "export": Verb(
        "Make a model",
        "camelid.formats.exporting:export",
        "write a model for llama.cpp, transformers or vLLM",
    ),
    "generate": Verb(
        "Use a model", "camelid.engine.terminal:generate", "continue a prompt, or answer it with --chat"
    ),
    "chat": Verb("Use a model", "camelid.engine.terminal:chat", "talk to a model in the terminal"),
    "eval": Verb(
        "Judge", "camelid.evals.stage:evaluate", "accuracy on a task, perplexity and bits per byte on text"
    ),
    "check": Verb(
        "Judge",
        "camelid.workflows.check:check",
        "find what is wrong with recipes, data and models beforehand",
    ),
    "report": Verb("Judge", "camelid.report.training:rebuild", "write a run's report.html anew"),
    "models": Verb(
        "Plan",
        "camelid.scaling.published:models",
        "published models: parameters, cost to train, memory to run",
    ),
    "fits": Verb(
        "Plan", "camelid.engine.fits:fits", "whether a model and its cache fit into memory, and what would"
    ),
}

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code; errors meant for people go to standard error without a traceback."""
    if argv is None:
        signal.signal(signal.SIGTERM, _terminated)
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or os.environ.get("CAMELID_DEBUG", "") not in ("", "0")
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        _dispatch(arguments)
        sys.stdout.flush()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else 2
    except KeyboardInterrupt as interrupt:
        print(f"camelid: {interrupt}" if str(interrupt) else "camelid: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`camelid ... | head`); Python must not try to flush again on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        message = _explain(error)
        if debug or message is None:
            raise
        print(f"camelid: {message}", file=sys.stderr)
        return 2 if isinstance(error, WrongCall) else 1
    return 0


def _terminated(number: int, frame: object) -> None:
    """Ends as Ctrl-C does, so that nothing half-written stays: batch systems and containers ask with SIGTERM."""
    raise SystemExit(128 + number)


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _print_help()
    elif arguments[0] in ("-V", "--version", "version"):
        print(f"camelid {__version__}")
    else:
        verb, *rest = arguments
        if verb not in VERBS:
            raise WrongCall(f"{verb!r} is no command; {_nearest(verb)}. `camelid --help` lists them all")
        from camelid.cli.flags import call

        call(_load(VERBS[verb].target), prog=f"camelid {verb}", arguments=rest)


def _load(target: str) -> Callable[..., Any]:
    module, name = target.split(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def _nearest(verb: str) -> str:
    import difflib

    near = difflib.get_close_matches(verb, VERBS, n=3, cutoff=0.5)
    return f"nearest: {', '.join(near)}" if near else f"commands: {', '.join(VERBS)}"


def _explain(error: Exception) -> str | None:
    """The message for a person, or None where the error is a fault of ours and its traceback is the message."""
    if isinstance(error, CamelidError):
        return str(error)
    # safetensors reports a full disk with an error of its own, by the system's words.
    if "No space left on device" in str(error) or "Disk quota exceeded" in str(error):
        where = getattr(error, "filename", None)
        return f"the disk is full{f' (writing {where})' if where else ''}; free some space, and the same command goes on"
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.filename}: {error.strerror.lower()}"
    return None


def _print_help() -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]camelid {__version__}[/bold]  language models from raw text to a local assistant\n")
    console.print("usage: camelid VERB \\[MODEL|RECIPE.yaml] --dotted.flag value\n")
    table = Table.grid(padding=(0, 3, 0, 0))
    group = None
    for name, verb in VERBS.items():
        if verb.group != group:
            table.add_row(f"[bold]{verb.group}[/bold]" if group is None else f"\n[bold]{verb.group}[/bold]")
            group = verb.group
        table.add_row(f"  [cyan]{name}[/cyan]", verb.help)
    console.print(table)
    console.print("\n`camelid VERB --help` shows its flags; --debug shows the traceback of an error.")


if __name__ == "__main__":
    sys.exit(main())
