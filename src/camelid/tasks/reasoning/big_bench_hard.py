"""BIG-Bench Hard: 27 tasks of BIG-bench on which models did worse than people (Suzgun et al.,
arXiv:2210.09261)."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from camelid.base.errors import CamelidError, WrongCall
from camelid.data.read.compressed import open_bytes
from camelid.prompting.asking import SO_THE_ANSWER
from camelid.tasks.graders import suited
from camelid.tasks.item import Item
from camelid.tasks.item_rows import Row, position_of, rows_with_places, text_of
from camelid.tasks.reasoning.bbh_exemplars_b_to_l import PROMPTS as B_TO_L
from camelid.tasks.reasoning.bbh_exemplars_m_to_w import PROMPTS as M_TO_W
from camelid.tasks.reasoning.choice_exemplars import DATES_WITH_CHOICES, SHUFFLED_OBJECTS, SPORTS
from camelid.tasks.reasoning.cleansing import BIG_BENCH_HARD
from camelid.tasks.reasoning.dataset import Dataset

TASKS = [
    "boolean_expressions",
    "causal_judgement",
    "date_understanding",
    "disambiguation_qa",
    "dyck_languages",
    "formal_fallacies",
    "geometric_shapes",
    "hyperbaton",
    "logical_deduction_five_objects",
    "logical_deduction_seven_objects",
    "logical_deduction_three_objects",
    "movie_recommendation",
    "multistep_arithmetic_two",
    "navigate",
    "object_counting",
    "penguins_in_a_table",
    "reasoning_about_colored_objects",
    "ruin_names",
    "salient_translation_error_detection",
    "snarks",
    "sports_understanding",
    "temporal_sequences",
    "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects",
    "tracking_shuffled_objects_three_objects",
    "web_of_lies",
    "word_sorting",
]
WORDING = replace(SO_THE_ANSWER, choices="{question}\nOptions:\n{choices}", choice_separator="\n")
OWN: dict[str, tuple[Item, ...]] = {
    "date_understanding": DATES_WITH_CHOICES,
    "sports_understanding": SPORTS,
    "tracking_shuffled_objects_three_objects": SHUFFLED_OBJECTS,
}
"""Our exemplars for those of the tasks that are also asked by themselves."""
PROMPTS = {**B_TO_L, **M_TO_W}
"""Our exemplars for the other tasks, as prompts."""

_OPTIONS = re.compile(r"\s*\nOptions:\s*\n")
_LETTERED = re.compile(r"^\(([A-Z])\)\s*(.*)$", re.MULTILINE)
_LISTED = re.compile(r"^- (.*?)\s*$", re.MULTILINE)
_TWO = (("Yes", "No"), ("yes", "no"), ("True", "False"), ("valid", "invalid"))
_SOLVED = re.compile(
    r"^Q: (?P<question>.*?)\nA: (?P<rationale>.*?) ?So the answer is (?P<answer>[^\n]*?)\.?$",
    re.MULTILINE | re.DOTALL,
)


def big_bench_hard(name: str) -> Dataset:
    """One of the tasks; raises `WrongCall` for an unknown name."""
    if name not in TASKS:
        raise WrongCall(f"bbh/{name}: no such task; the tasks are {', '.join(TASKS)}")
    return Dataset(
        name=f"bbh/{name}",
        version=1,
        read=_read,
        grader=suited,
        source="arXiv:2210.09261; suzgunmirac/BIG-Bench-Hard",
        published="6,511 in 27 tasks",
        rows=partial(_rows, name),
        exemplars=OWN.get(name) or _own(name),
        wording=WORDING,
        paper=BIG_BENCH_HARD,
    )


def _own(name: str) -> tuple[Item, ...]:
    """Our exemplars of a task, from their prompt."""
    rows = (row for row, _ in _of_task(PROMPTS[name], name))
    return tuple(Item(f"own-{index}", **_read(row)) for index, row in enumerate(rows))


def _rows(name: str, path: Path) -> Iterable[tuple[Row, str]]:
    """The task's own file, or one file with all tasks or all prompts by name."""
    with open_bytes(path) as file:
        begin = file.read(200).lstrip()
    if not begin.startswith(b"{") or b'"examples"' in begin.partition(b":")[0]:
        return rows_with_places(path)
    with open_bytes(path) as file:
        try:
            document = json.loads(file.read())
        except ValueError:
            return rows_with_places(path)  # JSON lines, or a fault that is reported with its line
    if "examples" in document or not {*TASKS} & document.keys():
        return rows_with_places(path)
    if name not in document:
        raise CamelidError(f"{path}: there is no {name!r} in it; it has {', '.join(document)}")
    return _of_task(document[name], f"{path}, {name}")


def _of_task(value: object, where: str) -> Iterator[tuple[Row, str]]:
    """Rows with an input and a target; from a prompt, its solved questions."""
    if isinstance(value, str):
        for index, found in enumerate(_SOLVED.finditer(value)):
            row = {"input": found["question"], "target": found["answer"], "rationale": found["rationale"]}
            yield row, f"{where}, exemplar {index}"
        return
    rows = value.get("examples") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise CamelidError(f"{where}: expected a list of examples")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise CamelidError(f"{where}[{index}]: expected an object with 'input' and 'target', not {row!r}")
        yield row, f"{where}[{index}]"


def _read(row: Row) -> dict[str, Any]:
    text, target = text_of(row, ("input",)).strip(), text_of(row, ("target",)).strip()
    fields = {"rationale": str(row.get("rationale", "")).strip()}
    question, *options = _OPTIONS.split(text)
    lettered = _LETTERED.findall(options[0]) if options else []
    if len(lettered) > 1 and re.match(r"\(.\)$", target):
        labels = [letter for letter, _ in lettered]
        if labels != list(ascii_uppercase[: len(labels)]):
            raise CamelidError(f"the options must be lettered from A on; they are {', '.join(labels)}")
        choices = tuple(choice.strip() for _, choice in lettered)
        position = position_of([f"({label})" for label in labels], target, "target")
        return {
            **fields,
            "question": question,
            "choices": choices,
            "answer": choices[position],
            "lettered": True,
        }
    listed = (
        tuple(_LISTED.findall(options[0])) if options else next((two for two in _TWO if target in two), ())
    )
    if not listed:
        return {**fields, "question": text, "answer": target}
    choices = listed
    return {
        **fields,
        "question": text,
        "choices": choices,
        "answer": choices[position_of(choices, target, "target")],
    }
