"""SCAN: commands in English, and the actions that they stand for (Lake and Baroni, arXiv:1711.00350).

In least-to-most prompting a model writes its intermediate results as expressions, `("TURN LEFT" + "JUMP") *
2` (Zhou et al., arXiv:2205.10625, section 3.2). `expanded` computes them with a parser; nothing is executed.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError
from camelid.data.read.files import format_of, lines_of
from camelid.prompting.least_to_most import BreakDown, Decomposition
from camelid.tasks.graders import TwoWays
from camelid.tasks.item import Grade, Item
from camelid.tasks.item_rows import Row, rows_with_places, text_of
from camelid.tasks.reading import answer_region, without_reasoning
from camelid.tasks.reasoning.dataset import Dataset
from camelid.tasks.reasoning.scan_exemplars import COMMANDS, COMMANDS_BROKEN_DOWN, COMMANDS_SOLVED

MOST_ACTIONS = 1000
MOST_DEPTH = 50

_ACTION = re.compile(r"(?:I_)?(TURN[ _](?:LEFT|RIGHT)|WALK|LOOK|RUN|JUMP)\b")
_TOKEN = re.compile(r'\s*(?:(["“”])(?P<text>[^"“”]*)["“”]|(?P<count>\d+)|(?P<sign>[()+*]))')
_RUN = re.compile(
    r'(?:["“][^"“”]*["”]|[()+*\s]|\b\d+\b|\b(?:I_)?(?:TURN[ _](?:LEFT|RIGHT)|WALK|LOOK|RUN|JUMP)\b)+'
)
_OUTPUT = re.compile(r"\b(?:outputs|output is)\b[ :]*")
_LINE = re.compile(r"IN:\s*(.*?)\s*OUT:\s*(.*?)\s*")


def expanded(text: str) -> tuple[str, ...] | None:
    """The actions that an expression or a plain sequence stands for, such as `("LOOK" * 2)`.

    None if the text is something else, or stands for more than `MOST_ACTIONS`.
    """
    try:
        plain = _actions(text)
    except ValueError:
        try:
            return _Expression(text).whole()
        except ValueError:
            return None
    return plain or None


def _actions(text: str) -> tuple[str, ...]:
    """A sequence of actions, I_TURN_LEFT or TURN LEFT; raises `ValueError` if there is anything else in
    it."""
    if _ACTION.sub(" ", text).strip(" ,"):
        raise ValueError(text)
    return tuple("I_" + match[1].replace(" ", "_") for match in _ACTION.finditer(text))


class _Expression:
    """Sums of quoted actions, repeated by `*` and a number; raises `ValueError` for anything else."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text.strip(), 0, 0

    def whole(self) -> tuple[str, ...]:
        value = self._sum()
        if self.at < len(self.text):
            raise ValueError(self.text)
        return value

    def _next(self, kind: str, *wanted: str) -> str | None:
        """The next token if it is of this kind."""
        found = _TOKEN.match(self.text, self.at)
        if found is None or found[kind] is None or (wanted and found[kind] not in wanted):
            return None
        self.at = found.end()
        return found[kind]

    def _sum(self) -> tuple[str, ...]:
        value = self._product()
        while self._next("sign", "+"):
            value = _bounded(value, self._product())
        return value

    def _product(self) -> tuple[str, ...]:
        value = self._atom()
        while self._next("sign", "*"):
            count = self._next("count")
            if count is None or int(count[:4]) * len(value) > MOST_ACTIONS or len(count) > 4:
                raise ValueError(self.text)
            value = value * int(count)
        return value

    def _atom(self) -> tuple[str, ...]:
        quoted = self._next("text")
        if quoted is not None:
            return _actions(quoted)
        self.depth += 1
        if self.depth > MOST_DEPTH or not self._next("sign", "("):
            raise ValueError(self.text)
        value = self._sum()
        if not self._next("sign", ")"):
            raise ValueError(self.text)
        self.depth -= 1
        return value


def _bounded(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    if len(one) + len(other) > MOST_ACTIONS:
        raise ValueError("too many actions")
    return one + other


@TwoWays
def actions(item: Item, reply: str) -> tuple[Grade, Grade]:
    """A sequence of actions, or an expression that stands for one.

    Strict: what follows the last marker, or the last "outputs", or a reply that is nothing else. Lenient: the
    last place in the reply that stands for actions.
    """
    reply = without_reasoning(reply)
    outputs = [reply[match.end() :].partition("\n")[0] for match in _OUTPUT.finditer(reply)]
    region = answer_region(reply)
    place = region if region is not None else outputs[-1] if outputs else reply
    strict = expanded(place.strip().removesuffix(".").strip("`*"))
    runs = (expanded(match[0]) for match in reversed([*_RUN.finditer(reply)]))
    lenient = strict or next((run for run in runs if run), None)
    right = expanded(item.answer)
    return Grade(_written(strict), strict == right), Grade(_written(lenient), lenient == right)


def _written(found: tuple[str, ...] | None) -> str | None:
    return " ".join(found) if found else None


def _rows(path: Path) -> Iterator[tuple[Row, str]]:
    """The published lines `IN: walk twice OUT: I_WALK I_WALK`, or rows with `commands` and `actions`."""
    if format_of(path) != "text":
        yield from rows_with_places(path)
        return
    for number, line in lines_of(path):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise CamelidError(
                f"{path}:{number}: expected a line 'IN: command OUT: actions', not {line[:60]!r}"
            )
        yield {"commands": found[1], "actions": found[2]}, f"{path}:{number}"


def _read(row: Row) -> dict[str, Any]:
    command, answer = text_of(row, ("commands",)).strip(), text_of(row, ("actions",)).strip()
    if expanded(answer) is None:
        raise CamelidError(f"{answer[:60]!r} are not actions such as I_TURN_LEFT I_WALK")
    return {"question": command, "answer": answer}


SCAN = Dataset(
    name="scan",
    version=1,
    read=_read,
    grader=actions,
    source="arXiv:1711.00350; brendenlake/SCAN",
    published="20,910; of the length split 3,920 test, 16,990 train",
    rows=_rows,
    exemplars=COMMANDS,
    decomposition=Decomposition(
        COMMANDS_SOLVED,
        COMMANDS_BROKEN_DOWN,
        BreakDown(
            question='Q: "{question}"\nA:',
            parts=" It is solved by {listed}.",
            context="",
            part='Q: "{part}"\nA:',
        ),
    ),
)
