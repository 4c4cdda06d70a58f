"""`camelid compare`: existing models, or one model quantised in several ways, in one table and one page."""

import itertools
import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from camelid.base.atomic import atomic_folder
from camelid.base.errors import CamelidError, WrongCall
from camelid.base.json import write_json
from camelid.data.read.corpus import Corpus
from camelid.data.read.files import data_files
from camelid.engine.conventions import described
from camelid.evals.methods import Method
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_config, read_spec
from camelid.recipes.compare import CompareRecipe
from camelid.report.comparison import AS_IT_IS, Measured, best_of, comparison_report, comparison_table
from camelid.report.page import show_cell, write_report
from camelid.report.values import Estimate, Table
from camelid.tasks.intervals import compare_grades
from camelid.workflows.measure import Yardstick, measured
from camelid.workflows.quantize import check_source, check_used, quantize_folder

logger = logging.getLogger(__name__)

OPENING = "Once upon a time"
"""Prompt of the command that the page suggests."""


@dataclass(frozen=True)
class Contender:
    """A model to measure: the name of its row, its folder, and a function that makes it if it does not exist
    yet."""

    method: str
    bits: int | None
    folder: Path
    make: Callable[[], object] | None = None

    @property
    def name(self) -> str:
        """The name of its row."""
        return self.method if self.make is None else f"{self.method} {self.bits}-bit"


def compare(recipe: CompareRecipe) -> None:
    """Measures every model, prints the table, writes comparison.json and report.html.

    With bits, the model is first quantised with every method into folders inside `out`. If a model cannot be
    made or measured, the others are kept and `CamelidError` is raised at the end. It is raised at once if a
    model does not exist, or if the first one or all others cannot be measured; then, as after an interrupt,
    nothing is written.
    """
    yardstick = Yardstick(
        texts=tuple(map(str, recipe.text)),
        convention=recipe.perplexity,
        task=recipe.task,
        data=None if recipe.data is None else str(recipe.data),
        limit=recipe.limit,
        chat=recipe.chat,
    )
    folders = [resolve(name) for name in recipe.models]
    source = folders[0]
    if recipe.bits:
        _check_calibration(recipe)
        check_source(source, recipe, recipe.methods, recipe.bits)
    if (task := yardstick.load_task()) is not None:
        Method(chat=yardstick.chat).program_for(task)
    Corpus(yardstick.texts)
    with atomic_folder(recipe.out) as draft:
        found = _measure_all(recipe, _contenders(recipe, folders, draft), yardstick)
        table = _write(recipe, source, found, yardstick, draft)
    print(plain_text(table))
    print(f"{table.caption}\n{recipe.out / 'report.html'}")
    if found.failures:
        count = len(found.rows) - 1 + len(found.failures)
        raise CamelidError(f"{len(found.failures)} of {count} could not be made: {found.failures[0]}")


def _check_calibration(recipe: CompareRecipe) -> None:
    check_used(recipe, recipe.methods, option="")
    if set(recipe.methods) == {"rtn"}:
        return
    if not recipe.calibration:
        raise WrongCall(
            "gptq and awq need calibration text: pass --calibration FILE, or compare only --methods rtn"
        )
    seen = {path.resolve() for path in data_files(recipe.calibration)}
    if both := [path for path in data_files(recipe.text) if path.resolve() in seen]:
        raise WrongCall(f"{both[0]} is also calibration text; use text for --text that no method has seen")


def _contenders(recipe: CompareRecipe, folders: Sequence[Path], draft: Path) -> Iterator[Contender]:
    """The reference model, then the models to compare with it."""
    if not recipe.bits:
        for name, folder in zip(shortest_names(recipe.models), folders, strict=True):
            bits = read_config(folder).get("quantization_config", {}).get("bits")
            yield Contender(name, bits, folder)
        return
    source = folders[0]
    yield Contender(AS_IT_IS, None, source)
    for bits, method in itertools.product(sorted(set(recipe.bits), reverse=True), recipe.methods):
        folder = draft / f"{method}-{bits}-bit"
        yield Contender(method, bits, folder, partial(quantize_folder, source, recipe, method, bits, folder))


def shortest_names(models: Sequence[str]) -> list[str]:
    """Each path by as many of its last parts as tell it from the others: `a/model`, `b/model`."""
    parts = [Path(model).parts for model in models]
    longest = max(map(len, parts))
    for count in range(1, longest):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [*models]


@dataclass(frozen=True)
class Found:
    """The measurements: a row for each model, the reasons for failures, and the dtypes used to compute."""

    rows: list[Measured]
    first: dict[str, Any]
    """All measurements of the first model."""
    failures: list[str]
    dtypes: dict[str, str]


def _measure_all(recipe: CompareRecipe, contenders: Iterator[Contender], yardstick: Yardstick) -> Found:
    leading = next(contenders)
    logger.info(f"{leading.name}: measuring")
    first = measured(leading.folder, yardstick)
    found = Found([found_row(leading, first, None)], first, [], {leading.name: first["dtype"]})
    for each in contenders:
        try:
            if each.make is not None:
                logger.info(f"{each.name}: quantising")
                each.make()
            logger.info(f"{each.name}: measuring")
            seen = measured(each.folder, yardstick)
            found.dtypes["quantised" if recipe.bits else each.name] = seen["dtype"]
            found.rows.append(found_row(each, seen, first))
        except WrongCall:
            raise
        except CamelidError as error:
            found.failures.append(f"{each.name}: {error}")
            logger.info(f"{found.failures[-1]}; continuing without it")
    if found.failures and len(found.rows) == 1:
        what = "no quantised model could be made" if recipe.bits else "no other model could be measured"
        raise CamelidError(f"{what}; {found.failures[0]}")
    return found


def _write(recipe: CompareRecipe, source: Path, found: Found, yardstick: Yardstick, draft: Path) -> Table:
    """Writes comparison.json and report.html; returns the table."""
    if len(set(found.dtypes.values())) == 1 and not recipe.bits:
        computed = next(iter(found.dtypes.values()))
    else:
        computed = ", ".join(f"{name} in {kind}" for name, kind in found.dtypes.items())
    caption = " ".join(
        [
            _caption(source, yardstick, found.first, computed, found.rows[0].name),
            *(f"Not made: {each}." for each in found.failures),
        ]
    )
    content = {"measured": caption, "models": [asdict(row) for row in found.rows], "failures": found.failures}
    write_json(draft / "comparison.json", content, measured=True)
    title, commands = f"{', '.join(row.name for row in found.rows)} side by side", []
    if recipe.bits:
        title = (
            f"{source.resolve().name} at {', '.join(map(str, sorted(set(recipe.bits), reverse=True)))} bits"
        )
        best = best_of(found.rows)[0].name.replace(" ", "-")
        verb, opening = ("chat", "") if yardstick.chat else ("generate", f' --prompt "{OPENING}"')
        commands.append(f"camelid {verb} {shlex.quote(str(recipe.out / best))}{opening}")
    write_report(comparison_report(title, found.rows, caption, commands), draft)
    return comparison_table(found.rows, caption)


def found_row(contender: Contender, found: dict[str, Any], before: dict[str, Any] | None) -> Measured:
    """The row for a model's measurements; `before` are those of the first model."""
    keys = ("megabytes", "perplexity", "bits_per_byte", "tokens_per_second", "peak_megabytes")
    group = read_config(contender.folder).get("quantization_config", {}).get("group_size")
    accuracy = difference = None
    if "task" in found:
        value, low, high = (100 * each for each in found["task"]["accuracy"])
        accuracy = Estimate(value, low, high)
        if before is not None:
            change = compare_grades(before["task"]["values"], found["task"]["values"])
            value, low, high = change.difference, change.interval.low, change.interval.high
            difference = Estimate(100 * value, 100 * low, 100 * high)
    numbers = {key: found[key] for key in keys}
    return Measured(
        contender.method,
        contender.bits,
        group,
        contender.name,
        **numbers,
        accuracy=accuracy,
        difference=difference,
        unparsed=_percent(found.get("task", {}).get("unparsed")),
        cut=_percent(found.get("task", {}).get("cut")),
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _caption(source: Path, yardstick: Yardstick, found: dict[str, Any], computed: str, first: str) -> str:
    of = f"{found['tokens']:,} tokens of {', '.join(Path(text).name for text in yardstick.texts)}"
    apart = ", each document separately" if yardstick.convention == "overlapping" else ""
    windows = described(yardstick.convention, read_spec(source).context_length)
    sentences = [f"Perplexity per token and bits per byte: {of}{apart}, in {windows}. Computed: {computed}."]
    if "task" in found:
        reference = "the model as it is" if first == AS_IT_IS else first
        sentences.append(
            f"Accuracy: {found['task']['asked']}, with its 95 % interval; the difference to {reference} "
            "in points, paired by question, with a bootstrap interval."
        )
    sentences.append(
        f"Tokens per second: {found['new_tokens']} new tokens of one greedy sequence, best of three. "
        "Peak: the resident memory of a process that only does this."
    )
    return " ".join(sentences)


def plain_text(table: Table) -> str:
    """A table for a terminal: right-aligned columns, separated by two spaces."""
    cells = [table.columns, *(tuple(map(show_cell, row)) for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells
    )
