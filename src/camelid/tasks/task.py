"""Tasks: questions with answers and a grader, from the generated world or from a file of rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from camelid.base.digest import digest_file
from camelid.base.errors import CamelidError, WrongCall, nearest
from camelid.data.world.items import SKILLS, WorldItem
from camelid.data.world.items import items as world_items
from camelid.data.world.splits import SPLITS, Split
from camelid.prompting.asking import Wording
from camelid.prompting.attempt import ChoiceScore
from camelid.prompting.least_to_most import Decomposition
from camelid.tasks.graders import GRADERS, TwoWays, choice, exact, likelihood, numeric, parse_number
from camelid.tasks.item import Grade, Grader, Grades, Item
from camelid.tasks.item_rows import read_items
from camelid.tasks.published import FORMATS, WITH_SETTING, Format, format_named
from camelid.tasks.published.format import no_totals
from camelid.tasks.python_file import defined_in
from camelid.tasks.reasoning import DATASETS, WITH_TASK, dataset_named, generated_named
from camelid.tasks.reasoning.cleansing import PAPER, Cleansing
from camelid.tasks.reasoning.dataset import Dataset
from camelid.tasks.record import Totals

__all__ = ["Grade", "Grader", "Grades", "Item", "Task", "load_task", "task_names"]

WORLD_VERSION = "1"
WORLD_ITEMS = 200
WORLD_EXEMPLARS = 8
SPLIT_NAMES = ("train", "test", "dev", "valid", "validation")
"""File names that need their folder's name to identify a task."""


@dataclass(frozen=True)
class Task:
    """Questions, and how an answer is graded; raises `CamelidError` if two items share an id."""

    name: str
    version: str
    items: tuple[Item, ...]
    grader: Grader
    exemplars: tuple[Item, ...] = ()
    """Training questions that can be shown as exemplars."""
    shape: str = ""
    """The kind of rows it was read from."""
    continuation: bool = False
    """Whether the questions are texts to continue unchanged."""
    judge: Callable[[Item, Sequence[ChoiceScore]], Grades] = likelihood
    """Grades choices by their scores, for programs that score instead of generating."""
    questions: frozenset[str] = frozenset()
    """What all items of the file ask (`Item.asked`), including those beyond the limit: none of them may be
    shown as an exemplar."""
    totals: Totals = no_totals
    """Metrics over all records."""
    cut_by_design: bool = False
    """Whether replies are expected to end at the length limit."""
    format: Format | None = None
    """The format of a published evaluation, if it is one."""
    decomposition: Decomposition | None = None
    """How the questions are broken down, for least-to-most."""
    paper: Cleansing | None = None
    """How the task's paper reads a reply, a third reading beside the grader's."""
    wording: Wording | None = None
    """The texts around a question, if they are not the usual ones."""
    read_items: Callable[[Path], Sequence[Item]] | None = None
    """Reads exemplars from a file of the task's own rows."""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for item in self.items:
            if item.id in seen:
                raise CamelidError(f"task {self.name}: the id {item.id!r} occurs twice; ids must be unique")
            seen.add(item.id)

    @property
    def file_name(self) -> str:
        """What names of files say the task is."""
        return self.name.replace("/", ".")

    def read(self, item: Item, reply: str) -> Mapping[str, str | None]:
        """The answer that each metric's reading extracts from a reply, for programs that vote."""
        if isinstance(self.grader, TwoWays):
            ours = self.grader.read(item, reply)
        else:
            ours = {metric: grade.extracted for metric, grade in self.grader(item, reply).items()}
        return {**ours, PAPER: self.paper.read(item, reply)} if self.paper else ours

    def grade(self, item: Item, reply: str) -> Grades:
        """The grades of every reading: the grader's, and the paper's if the task has one."""
        ours = self.grader(item, reply)
        return {**ours, PAPER: self.paper.grade(item, reply)} if self.paper else ours


def load_task(name_or_path: str | Path, *, limit: int | None = None, data: Path | None = None) -> Task:
    """The task with this name (`world/coin_flip`, `world/sums/longer`) or from a file of rows, first `limit`
    items only; or from a Python file that defines one.

    data: the rows of a published evaluation (`lambada`, `arc_easy`, ...), which come as a separate file.
    Raises `WrongCall` for an unknown name, `CamelidError` with file and line for a malformed row.
    """
    if limit is not None and limit < 1:
        raise WrongCall(f"the limit is {limit}; it must be at least 1")
    first, _, rest = str(name_or_path).partition("/")
    path = Path(name_or_path)
    if path.suffix == ".py" and path.is_file():
        return _from_python(path, data, limit)
    format = format_named(str(name_or_path)) if data is not None or not path.is_file() else None
    if format is not None:
        return _published(format, _must_be_file(format.name, data), limit)
    made = generated_named(str(name_or_path)) if data is None and not path.is_file() else None
    if made is not None:
        return _of_dataset(str(name_or_path), *made, "seeded", limit)
    dataset = dataset_named(str(name_or_path)) if data is not None or not path.is_file() else None
    if dataset is not None:
        rows = _must_be_file(dataset.name, data)
        return _of_dataset(
            dataset.name, dataset, dataset.items(rows), f"sha256:{digest_file(rows)[:8]}", limit
        )
    if data is not None:
        raise WrongCall(
            f"{name_or_path} takes no --data; the tasks that do are {', '.join(tasks_with_data())}"
        )
    if first == "world" and not path.is_file():
        return _world(rest, limit)
    if not path.is_file():
        hint = nearest(str(name_or_path), task_names(), otherwise="the tasks are", cutoff=0.5)
        raise WrongCall(f"{name_or_path}: no such file, and no such task; {hint}")
    return _from_file(path, limit)


def task_names() -> list[str]:
    """The names of all tasks.

    A split can follow the world's tasks: `/validation`, `/test`, `/longer`. Published tasks need their data.
    """
    return [*(f"world/{skill}" for skill in SKILLS), *tasks_with_data()]


def tasks_with_data() -> list[str]:
    """The names of published tasks and data sets, which need their file; some take a setting after a
    slash."""
    return [*FORMATS, *WITH_SETTING, *DATASETS, *WITH_TASK]


def takes_data(name: str) -> bool:
    """Whether a task with this name reads a file that is passed as --data."""
    if name.endswith(".py") and Path(name).is_file():
        return isinstance(defined_in(Path(name)), Dataset)
    if Path(name).is_file() or generated_named(name) is not None:
        return False
    return name.partition("/")[0] in tasks_with_data()


def _must_be_file(name: str, data: Path | None) -> Path:
    if data is None:
        raise WrongCall(f"{name} needs its dataset: pass --data FILE")
    if not data.is_file():
        raise WrongCall(f"{data}: no such file; --data must be a file with the rows of {name}")
    return data


def _of_dataset(name: str, dataset: Dataset, items: Sequence[Item], version: str, limit: int | None) -> Task:
    return Task(
        name=name,
        version=f"{dataset.version}+{version}",
        items=tuple(items[:limit]),
        grader=dataset.grader,
        exemplars=dataset.exemplars,
        shape=dataset.name,
        questions=frozenset(item.asked for item in items),
        decomposition=dataset.decomposition,
        paper=dataset.paper,
        wording=dataset.wording,
        read_items=dataset.items,
    )


def _from_python(path: Path, data: Path | None, limit: int | None) -> Task:
    """The task of a Python file; any change of the file is another version."""
    value, digest = defined_in(path), f"sha256:{digest_file(path)[:8]}"
    if isinstance(value, Dataset):
        rows = _must_be_file(str(path), data)
        return _of_dataset(value.name, value, value.items(rows), f"{digest}+{digest_file(rows)[:8]}", limit)
    if not isinstance(value, Task):
        raise CamelidError(
            f"{path}: TASK must be a camelid.tasks.task.Task and DATASET a camelid.tasks.reasoning.Dataset, "
            "not a "
            f"{type(value).__name__}"
        )
    if data is not None:
        raise WrongCall(f"{path} defines TASK with its own items: leave out --data, or define DATASET")
    if not value.items:
        raise CamelidError(f"{path}: TASK has no items")
    return replace(
        value,
        version=f"{value.version}+{digest}",
        items=tuple(value.items[:limit]),
        questions=value.questions | {item.asked for item in value.items},
    )


def _published(format: Format, data: Path, limit: int | None) -> Task:
    items = format.items(data)
    return Task(
        name=format.name,
        version=f"{format.version}+sha256:{digest_file(data)[:8]}",
        items=tuple(items[:limit]),
        grader=format.grader,
        shape=format.name,
        judge=format.judge,
        questions=frozenset(item.asked for item in items),
        totals=format.totals,
        cut_by_design=format.cut_by_design,
        format=format,
    )


def _world(name: str, limit: int | None) -> Task:
    skill, _, wanted = name.partition("/")
    if skill not in SKILLS or (wanted or "test") not in SPLITS:
        raise WrongCall(
            f"world/{name}: no such task; the tasks are {', '.join(task_names())}; "
            f"world/ tasks can end in /{', /'.join(SPLITS)}"
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
        questions=frozenset(item.asked for item in items),
        continuation=shape.continuation,
    )


def _grader(path: Path, items: list[Item]) -> Grader:
    """The grader that the rows name, or the one that suits the answers: choices, numbers, otherwise text."""
    named = {item.metadata.get("grader") for item in items}
    if named != {None}:
        if len(named) > 1 or not named <= GRADERS.keys():
            raise CamelidError(
                f"{path}: grader is {named}; every row must name the same one of {', '.join(GRADERS)}"
            )
        grader = GRADERS[str(named.pop())]
        for item in items:
            where = f"{path}: item {item.id}"
            if grader is numeric and parse_number(item.answer) is None:
                raise CamelidError(f"{where}: the answer {item.answer!r} is not a number; grader is numeric")
            if grader is choice and not item.choices:
                raise CamelidError(f"{where}: there are no 'choices'; grader is choice")
        return grader
    if any(item.choices for item in items):
        return choice
    return numeric if all(parse_number(item.answer) is not None for item in items) else exact
