"""Variants of a way of asking that should not matter: order, choice, number and wording of exemplars,
triggers."""

import dataclasses
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.json import read_table
from camelid.evals.methods import Method, exemplar_file, exemplar_pool
from camelid.prompting.asking import QUESTION_ANSWER, Wording
from camelid.prompting.attempt import Program
from camelid.prompting.calibration import CONTENT_FREE
from camelid.prompting.programs import (
    ANSWER,
    STEPS,
    STEPS_CUE,
    TRIGGERS,
    chain_of_thought,
    direct,
    few_shot,
    likelihood,
)
from camelid.tasks.graders import numeric
from camelid.tasks.item import Item
from camelid.tasks.task import Task

T = TypeVar("T")

SHOTS = 4
"""Exemplars in orders and choices, if --shots does not say: as in Lu et al. (arXiv:2104.08786, section 2)."""

MARKS = {
    "question_answer": ("Question: ", "Answer:"),
    "problem_solution": ("Problem: ", "Solution:"),
    "input_output": ("Input: ", "Output:"),
    "exercise": ("Exercise. ", "The solution:"),
}
"""What stands before a question and before its answer, in other wordings than the usual."""
CUES = {
    "steps": STEPS_CUE,
    "careful": " Let's work through this carefully, one part at a time.",
    "known": " First, let's write down what we know.",
    "why": " Here is how to find the answer.",
    "short": " Steps:",
    "unrelated": " The weather is fine today.",
}
"""Triggers written for this project; the last one asks for nothing, for comparison."""


@dataclass(frozen=True)
class Triggers:
    """Triggers of a file: what asks for steps, and what asks for the answer, by data set."""

    steps: tuple[str, ...]
    answer: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> "Triggers":
        """The triggers of a JSON file with `stage1_suffix` (a text or a list of them) and `answer_triggers`.

        Raises `CamelidError` for a file without either, or with other values.
        """
        table = read_table(path, remedy="--triggers takes a JSON object with stage1_suffix, answer_triggers")
        found = table.get("stage1_suffix", [])
        steps = [found] if isinstance(found, str) else found
        answer = table.get("answer_triggers", {})
        if not (_texts(steps) and isinstance(answer, dict) and _texts([*answer.values()])) or not (
            steps or answer
        ):
            raise CamelidError(
                f"{path}: give stage1_suffix, a text or a list of texts, or answer_triggers, "
                "an object of texts"
            )
        return cls(tuple(steps), answer)


@dataclass(frozen=True)
class Variant:
    """One way of asking among those of a dimension, such as one order of the exemplars."""

    dimension: str
    name: str
    program: Program
    exemplars: tuple[Item, ...] = ()


def variants(
    task: Task,
    method: Method,
    *,
    count: int = 8,
    writers: Sequence[Path] = (),
    triggers: Triggers | None = None,
    seed: int = 0,
) -> Iterator[Variant]:
    """The variants of a task's way of asking, dimension by dimension; the first of each is the usual one.

    Questions with choices are asked by likelihood, calibrated too; others with the steps of the exemplars if
    these have them. Raises `WrongCall` where nothing can vary, `CamelidError` for exemplars that are asked.
    """
    make = _Maker(task, method)
    shots = method.shots or min(SHOTS, len(make.pool))
    if shots > len(make.pool):
        raise WrongCall(f"--shots is {shots}, but there are {len(make.pool)} exemplars for {task.name}")
    first = make.pool[:shots]
    for at, order in enumerate(_orders(first, count, seed)):
        yield make.variant("order", f"{at}", order)
    if len(make.pool) > shots:
        for at, chosen in enumerate(_choices(make.pool, shots, count, seed)):
            yield make.variant("choice", f"{at}", chosen)
    powers = (2**power for power in range(10) if 2**power < len(make.pool))
    for number in dict.fromkeys((0, *powers, len(make.pool))):
        yield make.variant("number", f"{number}", make.pool[:number])
    if not method.chat:
        for name, wording in {"usual": make.wording, **_wordings(make.wording)}.items():
            yield make.variant("wording", name, first, wording=wording)
    for name, pool in {"usual": make.pool, **{path.stem: make.checked(path) for path in writers}}.items():
        if writers:
            yield make.variant("writer", name, pool[:shots])
    if make.program != "likelihood":
        yield from make.triggered(triggers)


class _Maker:
    """Makes the variants of one task."""

    def __init__(self, task: Task, method: Method) -> None:
        if task.format or task.continuation:
            raise WrongCall(f"{task.name} has a fixed wording; --sensitivity needs a task such as gsm8k")
        if method.program not in (None, "direct", "few_shot", "chain_of_thought", "likelihood"):
            raise WrongCall(
                f"--sensitivity varies exemplars that every program shares; {method.program} has its own: "
                "use "
                "few_shot, chain_of_thought or likelihood"
            )
        if method.answer_context:
            raise WrongCall("--sensitivity calibrates by content-free texts: leave out --answer-context")
        self.task, self.method = task, method
        file = exemplar_file(task, method.exemplars)
        self.wording = task.wording or QUESTION_ANSWER
        self.wording = file.wording(self.wording) if file else self.wording
        self.pool = self.checked(method.exemplars)
        self.program = method.program or self._usual()

    def _usual(self) -> str:
        if all(item.choices for item in self.task.items):
            return "likelihood"
        return "chain_of_thought" if all(item.rationale for item in self.pool) else "few_shot"

    def checked(self, path: Path | None) -> tuple[Item, ...]:
        """The exemplars of a file, or the task's own; none may be one of the questions."""
        pool = tuple(exemplar_pool(self.task, path))
        asked = self.task.questions | {item.asked for item in self.task.items}
        if leaked := [item for item in pool if item.asked in asked]:
            raise CamelidError(
                f"{self.task.name}: the exemplar {leaked[0].id!r} is itself one of the questions; "
                "use other exemplars"
            )
        return pool

    def variant(
        self,
        dimension: str,
        name: str,
        shown: Sequence[Item],
        *,
        wording: Wording | None = None,
        **staged: Any,
    ) -> Variant:
        """The variant with these exemplars; `staged` has the texts of a chain of thought without
        exemplars."""
        words, chat = wording or self.wording, self.method.chat
        if self.program == "likelihood":
            fixed = all(not item.contexts for item in self.task.items)
            program = likelihood(shown, chat=chat, wording=words, content_free=CONTENT_FREE if fixed else ())
        elif self.program == "chain_of_thought" or staged:
            trigger = TRIGGERS["number"] if self.task.grader is numeric else None
            how = self.method.sampling(STEPS)
            settings = {"trigger": trigger, **staged}
            program = chain_of_thought(shown, chat=chat, sampling=how, wording=words, **settings)
        elif shown:
            program = few_shot(shown, chat=chat, sampling=self.method.sampling(ANSWER), wording=words)
        else:
            program = direct(chat=chat, sampling=self.method.sampling(ANSWER), wording=words)
        key, title = f"{program.name}.{dimension}-{name}", f"{program.title}, {dimension} {name}"
        return Variant(dimension, name, dataclasses.replace(program, name=key, title=title), tuple(shown))

    def triggered(self, triggers: Triggers | None) -> Iterator[Variant]:
        """Chains of thought without exemplars, with each trigger that asks for steps, and for the answer."""
        from_file = triggers.steps if triggers else ()
        cues = {**CUES, **{f"file_{at}": f" {text.strip()}" for at, text in enumerate(from_file)}}
        for name, cue in cues.items():
            if name in CUES or cue not in CUES.values():
                yield self.variant("trigger", name, (), cue=cue)
        if triggers and (text := triggers.answer.get(self.task.name)) and not self.method.chat:
            yield self.variant("trigger", "answer_file", (), cue=STEPS_CUE, trigger=text)


def _wordings(usual: Wording) -> Mapping[str, Wording]:
    """The usual wording with other marks of question and answer."""
    return {
        name: dataclasses.replace(
            usual,
            question=f"{before}{{question}}\n{after}",
            answer_context=after,
            stop_reasoned=(f"\n{before.strip()}",),
        )
        for name, (before, after) in MARKS.items()
    }


def _orders(items: Sequence[Item], count: int, seed: int) -> list[tuple[Item, ...]]:
    """The usual order, then different other ones, as many as there are at most."""
    places, drawn = range(len(items)), random.Random(f"{seed}:order")
    most = min(count, math.factorial(len(items)))
    orders = _different(tuple(places), lambda: tuple(drawn.sample(places, len(items))), most)
    return [tuple(items[at] for at in order) for order in orders]


def _choices(pool: Sequence[Item], shots: int, count: int, seed: int) -> list[tuple[Item, ...]]:
    """The first exemplars, then different other choices in the order of the pool."""
    places, drawn = range(len(pool)), random.Random(f"{seed}:choice")
    most = min(count, math.comb(len(pool), shots))
    chosen = _different(tuple(range(shots)), lambda: tuple(sorted(drawn.sample(places, shots))), most)
    return [tuple(pool[at] for at in picks) for picks in chosen]


def _different(first: T, draw: Callable[[], T], count: int) -> list[T]:
    """Different draws after the first; more of them begin with the same ones, so that a call can be
    extended."""
    found = {first: None}
    while len(found) < count:
        found.setdefault(draw())
    return list(found)


def _texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) and value.strip() for value in values)
