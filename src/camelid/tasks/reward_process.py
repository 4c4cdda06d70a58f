"""The process in which a user's reward function runs: it may hang, print or crash there without harm.

Requests and answers are JSON lines; what the function prints goes to standard error.
"""

import inspect
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from camelid.base.errors import CamelidError
from camelid.base.json import json_line
from camelid.base.parent import end_with_parent
from camelid.tasks.python_file import executed, place_of

Table = Mapping[str, Any]
SINGLE, LISTS = ("prompt", "completion"), ("prompts", "completions")
"""The parameters of a reward function: a sample's, or lists of one sample with TRL's names."""


def serve(path: Path, name: str, parent: int) -> None:
    """Answers requests with rewards until the process `parent` closes the pipe or is gone."""
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    sys.path.insert(0, str(path.parent))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        call = _caller(_function(path, name))
    except CamelidError as error:
        _say(answers, {"error": str(error)})
        return
    _say(answers, {})
    for line in sys.stdin:
        try:
            _say(answers, {"reward": _number(call(json.loads(line)))})
        except CamelidError as error:
            _say(answers, {"error": str(error)})
        except Exception as error:
            problem = f"raised {type(error).__name__}: {error} ({place_of(error, path)})"
            _say(answers, {"error": problem})


def _say(answers: IO[str], answer: Table) -> None:
    answers.write(json_line(answer))
    answers.flush()


def _function(path: Path, name: str) -> Callable[..., Any]:
    value = getattr(executed(path), name, None)
    if not callable(value):
        raise CamelidError(f"{path} defines no function {name}")
    return value  # type: ignore[no-any-return]


def _caller(function: Callable[..., Any]) -> Callable[[Table], Any]:
    """Calls the function with the columns of a sample that its parameters name, all with **others."""
    parameters = inspect.signature(function).parameters
    names = next((pair for pair in (SINGLE, LISTS) if pair[1] in parameters), None)
    if names is None:
        raise CamelidError(
            f"{function.__name__} takes {', '.join(parameters) or 'nothing'}; a reward function takes "
            "completion and, as far as it needs them, prompt and columns of the row such as answer; or the "
            "lists completions and prompts, as in TRL"
        )
    everything = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    listed = names is LISTS

    def call(sample: Table) -> Any:
        given = {**sample["columns"], names[0]: sample["prompt"], names[1]: sample["completion"]}
        missing = [
            each.name
            for each in parameters.values()
            if each.default is each.empty
            and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
            and each.name not in given
        ]
        if missing:
            raise CamelidError(
                f"takes {missing[0]}, and the sample has {', '.join(sorted(given))}; give the parameter a "
                "default, or add the column to the rows"
            )
        chosen = {key: value for key, value in given.items() if everything or key in parameters}
        value = function(**({key: [one] for key, one in chosen.items()} if listed else chosen))
        return value[0] if listed and isinstance(value, list | tuple) and len(value) == 1 else value

    return call


def _number(value: Any) -> float:
    """The reward as a number; raises `CamelidError` for everything else, which is never a reward of 0."""
    try:
        number = float(value) if not isinstance(value, str) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise CamelidError(f"returned {value!r:.60}, which is not a finite number")
    return number
