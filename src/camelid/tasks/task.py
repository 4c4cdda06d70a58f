"""Tasks: questions with answers and the way to judge a reply, from the embedded world or from a file of rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from camelid.base.digest import digest_file
from camelid.base.errors import CamelidError, WrongCall
from camelid.data.world.items import SKILLS, WorldItem
from camelid.data.world.items import items as world_items
from camelid.data.world.splits import SPLITS, Split
from camelid.prompting.programs import ChoiceScore
from camelid.tasks.graders import GRADERS, choice, exact, likelihood, numeric, parse_number
from camelid.tasks.item import Grade, Grader, Grades, Item
from camelid.tasks.item_rows import read_items
from camelid.tasks.published import FORMATS, WITH_SETTING, Format, format_named
from camelid.tasks.published.format import no_totals
from camelid.tasks.record import Totals

__all__ = ["Grade", "Grader", "Grades", "Item", "Task", "load_task", "task_names"]

WORLD_VERSION = "1"
WORLD_ITEMS = 200
WORLD_EXEMPLARS = 8
SPLIT_NAMES = ("train", "test", "dev", "valid", "validation")
"""File names that say nothing without their folder's."""


@dataclass(frozen=True)
class Task:
    """Questions, and how an answer is judged; raises `CamelidError` where two items share an id."""

    name: str
    version: str
    items: tuple[Item, ...]
    grader: Grader
    exemplars: tuple[Item, ...] = ()
    """Training questions that can be shown before these."""
    shape: str = ""
    """The kind of rows it was read from."""
    continuation: bool = False
    """Whether the questions are texts to continue as they stand."""
    judge: Callable[[Item, Sequence[ChoiceScore]], Grades] = likelihood
    """Judges choices by their scores, where a program scores instead of generating."""
    questions: frozenset[str] = frozenset()
    """All that the file asks, also past the limit: none of them may be shown as an exemplar."""
    totals: Totals = no_totals
    """Metrics of all records together."""
    cut_by_design: bool = False
    """Whether it is no fault that every reply ends at the length limit."""
    format: Format | None = None
    """The words and ways of a published evaluation, where it is one."""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for item in self.items:
            if item.id in seen:
                raise CamelidError(f"task {self.name}: the id {item.id!r} occurs twice; ids must be unique")
            seen.add(item.id)


def load_task(name_or_path: str | Path, *, limit: int | None = None, data: Path | None = None) -> Task:
    """The task of a name (`world/coin_flip`, `world/sums/longer`) or of a JSON(L) file, with its first `limit` items.

    data: the rows of a published evaluation (`lambada`, `arc_easy`, ...), which is known by name without its data.
    Raises `WrongCall` for an unknown name, `CamelidError` with file and line for a row that does not fit.
    """
    if limit is not None and limit < 1:
        raise WrongCall(f"the limit is {limit}; it must be at least 1")
    first, _, rest = str(name_or_path).partition("/")
    path = Path(name_or_path)
    format = format_named(str(name_or_path)) if data is not None or not path.is_file() else None
    if format is not None:
        return _published(format, data, limit)
    if data is not None:
        raise WrongCall(
            f"{name_or_path} takes no --data; those that do are {', '.join([*FORMATS, *WITH_SETTING])}"
        )
    if first == "world" and not path.is_file():
        return _world(rest, limit)
    if not path.is_file():
        raise WrongCall(
            f"{name_or_path}: no such file, and no such task; there are {', '.join(task_names())}"
        )
    return _from_file(path, limit)


def task_names() -> list[str]:
    """The names of all tasks.

    Those of the world can be followed by a split: `/validation`, `/test`, `/longer`; the published ones need their data.
    """
    return [*(f"world/{skill}" for skill in SKILLS), *FORMATS, *WITH_SETTING]


def _published(format: Format, data: Path | None, limit: int | None) -> Task:
    if data is None:
        raise WrongCall(f"{format.name} is known without its data: give its rows with --data FILE")
    if not data.is_file():
        raise WrongCall(f"{data}: no such file; --data is a file of the rows of {format.name}")
    items = format.items(data)
    return Task(
        name=format.name,
        version=f"{format.version}+sha256:{digest_file(data)[:8]}",
        items=tuple(items[:limit]),
        grader=format.grader,
        shape=format.name,
        judge=format.judge,
        questions=frozenset(item.question for item in items),
        totals=format.totals,
        cut_by_design=format.cut_by_design,
        format=format,
    )


def _world(name: str, limit: int | None) -> Task:
    skill, _, wanted = name.partition("/")
    if skill not in SKILLS or (wanted or "test") not in SPLITS:
        raise WrongCall(
            f"world/{name}: no such task; there are {', '.join(task_names())}, each with /{', /'.join(SPLITS)}"
        )
    split = cast(Split, wanted or "test")
    found = world_items(skill, split, limit or WORLD_ITEMS)
    shown = world_items(skill, "train", WORLD_EXEMPLARS)
    return Task(
        name=f"world/{skill}/{split}",
        version=WORLD_VERSION,
        items=tuple(map(_world_item, found)),
        grader=GRADERS[SKILLS[skill].grader],
        exemplars=tuple(map(_world_item, shown)),
        shape="generated",
    )


def _world_item(item: WorldItem) -> Item:
    return Item(
        id=item.id, question=item.question, answer=item.answer, choices=item.choices, rationale=item.steps
    )


def _from_file(path: Path, limit: int | None) -> Task:
    items, shape = read_items(path)
    stem = path.name.removesuffix(path.suffix) if path.suffix in (".gz", ".xz") else path.name
    name = Path(stem).stem
    return Task(
        name=f"{path.resolve().parent.name}/{name}" if name in SPLIT_NAMES else name,
        version=f"sha256:{digest_file(path)[:8]}",
        items=tuple(items[:limit]),
        grader=_grader(path, items),
        shape=shape.name,
        questions=frozenset(item.question for item in items),
        continuation=shape.continuation,
    )


def _grader(path: Path, items: list[Item]) -> Grader:
    """The grader that the rows name, or the one that fits the answers: choices, numbers, else text."""
    named = {item.metadata.get("grader") for item in items}
    if named != {None}:
        if len(named) > 1 or not named <= GRADERS.keys():
            raise CamelidError(
                f"{path}: grader is {named}; every row must name the same of {', '.join(GRADERS)}"
            )
        return GRADERS[str(named.pop())]
    if any(item.choices for item in items):
        return choice
    return numeric if all(parse_number(item.answer) is not None for item in items) else exact
