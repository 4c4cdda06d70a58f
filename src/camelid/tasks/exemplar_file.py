"""Exemplars with their own wording in a file: the form in which published prompts are collected.

{"prompt_format": "Q: {question}\\nA: {rationale} So the answer is {answer}.\\n\\n",
 "exemplars": [{"question": "...", "rationale": "...", "answer": "yes"}]}
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from camelid.base.errors import CamelidError
from camelid.data.read.compressed import open_bytes
from camelid.prompting.asking import QUESTION_ANSWER, Wording
from camelid.tasks.item import Item

MOST_BYTES = 4_000_000
FIELDS = ("preamble", "question", "rationale", "answer")
_SMALL_LETTER = re.compile(r"\([a-z]\)")


@dataclass(frozen=True)
class ExemplarFile:
    """The exemplars of a file, and how their prompts are worded."""

    items: tuple[Item, ...]
    prompt_format: str
    preamble: str = ""

    def wording(self, usual: Wording = QUESTION_ANSWER) -> Wording:
        """The wording of the prompts; what the format does not say is as usual.

        Where the exemplars name choices in small letters, so do the questions.
        """
        opening, name, rest = _parts(self.prompt_format)
        body = rest.rstrip("\n")
        asked = opening.rstrip(" ")
        before = asked.partition("{question}")[0].strip()
        small = any(_SMALL_LETTER.fullmatch(item.answer) for item in self.items)
        changes: dict[str, Any] = {"choice": "({small}) {choice}", "named": "({small})"} if small else {}
        return dataclasses.replace(
            usual,
            question=asked,
            answer=opening[len(asked) :] + "{answer}",
            reasoned=name + body,
            separator=rest[len(body) :] or usual.separator,
            stop_reasoned=(f"\n{before}",) if before else usual.stop_reasoned,
            preamble=self.preamble.replace("{", "{{").replace("}", "}}"),
            **changes,
        )


def read_exemplar_file(path: Path) -> ExemplarFile | None:
    """The exemplars of a file with a `prompt_format`; None for any other file of rows.

    Raises `CamelidError` with the file and the exemplar's number if something is missing.
    """
    with open_bytes(path) as file:
        content = file.read(MOST_BYTES)
    if b'"prompt_format"' not in content:
        return None
    try:
        document = json.loads(content)
    except ValueError as error:
        raise CamelidError(f"{path}: not a JSON document: {error}") from error
    rows, wanted = document.get("exemplars"), document.get("prompt_format")
    if not isinstance(rows, list) or not rows or not isinstance(wanted, str):
        raise CamelidError(
            f"{path}: 'exemplars' must be a list of solved questions, and 'prompt_format' a text"
        )
    prompt_format = wanted.replace("\\n", "\n")
    _check(prompt_format, path)
    _, marker, after = prompt_format.partition("{preamble}")
    if not marker:
        return ExemplarFile(_items(rows, path), prompt_format)
    gap = after[: len(after) - len(after.lstrip())]
    return ExemplarFile(_items(rows, path), after.lstrip(), f"{document.get('preamble', '')}{gap}")


def _items(rows: list[Any], path: Path) -> tuple[Item, ...]:
    items = []
    for index, row in enumerate(rows):
        where = f"{path}, exemplars[{index}]"
        if not isinstance(row, Mapping) or not all(
            isinstance(row.get(key), str) for key in ("question", "answer")
        ):
            raise CamelidError(f"{where}: an exemplar needs the texts 'question' and 'answer'")
        rationale = row.get("rationale") or ""
        if not isinstance(rationale, str):
            raise CamelidError(f"{where}: 'rationale' must be a text, not {rationale!r}")
        try:
            items.append(Item(f"{path.stem}-{index}", row["question"], row["answer"], rationale=rationale))
        except CamelidError as error:
            raise CamelidError(f"{where}: {error}") from error
    return tuple(items)


def _parts(prompt_format: str) -> tuple[str, str, str]:
    """What precedes the reply, the first field of the reply, and the rest."""
    name = "{rationale}" if "{rationale}" in prompt_format else "{answer}"
    return prompt_format.partition(name)


def _check(prompt_format: str, path: Path) -> None:
    try:
        fields = [name for _, name, _, _ in Formatter().parse(prompt_format) if name is not None]
    except ValueError as error:
        raise CamelidError(f"{path}: prompt_format: {error}") from error
    unknown = [name for name in fields if name not in FIELDS]
    opening = _parts(prompt_format)[0]
    if unknown or "{question}" not in opening or not {"rationale", "answer"} & {*fields}:
        raise CamelidError(
            f"{path}: prompt_format must have {{question}} and then {{rationale}} or {{answer}}, "
            "and may have "
            f"{{preamble}} first; it is {prompt_format!r}"
        )
