"""Quantised models of one source side by side: size, how well each predicts a text and answers a task, speed, memory.

Every model is measured in a process of its own: `python -m camelid.workflows.compare FOLDER YARDSTICK` prints what it found.
"""

import copy
import itertools
import json
import math
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from camelid.base.atomic import atomic_folder
from camelid.base.errors import CamelidError, WrongCall, naming
from camelid.base.json import write_json
from camelid.data.read.corpus import Corpus
from camelid.engine.conventions import Convention, described
from camelid.engine.engine import Engine
from camelid.engine.generation import Generation
from camelid.engine.perplexity import perplexity
from camelid.evals.evaluate import evaluate
from camelid.evals.stage import make_program
from camelid.formats.hugging_face.checkpoint import read_config, read_spec, weight_files
from camelid.formats.hugging_face.tensor_files import dtype_name
from camelid.lm.interface import Sampling
from camelid.quant.quantize import Method
from camelid.quant.round_to_nearest import Bits
from camelid.report.comparison import AS_IT_IS, Measured, best_of, comparison_report, comparison_table
from camelid.report.page import show_cell, write_report
from camelid.report.values import Estimate, Table
from camelid.tasks.intervals import compare_grades
from camelid.tasks.task import Task, load_task

METHODS: tuple[Method, ...] = ("rtn", "gptq", "awq")
MOST_TOKENS = 32768
"""Of the text, where windows overlap; more would tell little more. A published convention is of the whole text."""
NEW_TOKENS = 128
"""Of the sequence that is timed, or as many as the context has room for."""
OPENING = "Once upon a time"
"""Of the text that the page says how to generate."""


@dataclass(frozen=True)
class Yardstick:
    """What models are measured by: texts in the windows of a convention, and a task where one is named."""

    texts: tuple[str, ...]
    convention: Convention = "overlapping"
    task: str | None = None
    data: str | None = None
    """The rows of a published task."""
    limit: int | None = None
    """The first questions alone."""
    chat: bool = False
    """Whether questions are asked in the model's chat template."""

    def load_task(self) -> Task | None:
        """The task; raises `CamelidError` where there is none of its name, or not its data."""
        if self.task is None:
            return None
        with naming("--compare-task (its rows: --compare-data)"):
            data = None if self.data is None else Path(self.data)
            return load_task(self.task, limit=self.limit, data=data)


def compare_methods(
    source: Path,
    out: Path,
    yardstick: Yardstick,
    bits: Sequence[Bits],
    quantize_one: Callable[[Method, Bits, Path], object],
) -> None:
    """Quantises by every method at every number of bits into folders in `out`, measures, prints the table, writes report.html.

    quantize_one: is given a method, bits and a folder to write. Where one cannot be made or measured, the others go on and
    stay, and `CamelidError` is raised at the end. Raises it at once where the source cannot be measured, or where no method
    can be carried out; then, as when it is interrupted, nothing stays.
    """
    task = yardstick.load_task()
    if task is not None:
        make_program(task, chat=yardstick.chat)
    Corpus(yardstick.texts)
    with atomic_folder(out) as draft:
        _say(f"{AS_IT_IS}: measuring")
        first = measured(source, yardstick)
        rows, failures = [found_row(AS_IT_IS, None, source, first, None)], []
        dtypes = {AS_IT_IS: first["dtype"]}
        for number, method in itertools.product(sorted(set(bits), reverse=True), METHODS):
            name = f"{method} {number}-bit"
            folder = draft / name.replace(" ", "-")
            try:
                _say(f"{name}: quantising")
                quantize_one(method, number, folder)
                _say(f"{name}: measuring")
                found = measured(folder, yardstick)
                dtypes["quantised"] = found["dtype"]
                rows.append(found_row(method, number, folder, found, first))
            except WrongCall:
                raise
            except CamelidError as error:
                failures.append(f"{name}: {error}")
                _say(f"{failures[-1]}; going on without it")
        if len(rows) == 1:
            raise CamelidError(f"no quantised model could be made; {failures[0]}")
        computed = ", ".join(f"{kind} in {name}" for kind, name in dtypes.items())
        caption = " ".join(
            [_caption(source, yardstick, first, computed), *(f"Not made: {each}." for each in failures)]
        )
        table = comparison_table(rows, caption)
        said = {"measured": caption, "models": [asdict(row) for row in rows], "failures": failures}
        write_json(draft / "comparison.json", said, measured=True)
        best = best_of(rows)[0].name.replace(" ", "-")
        verb, opening = ("chat", "") if yardstick.chat else ("generate", f' --prompt "{OPENING}"')
        command = f"camelid {verb} {shlex.quote(str(out / best))}{opening}"
        title = f"{source.resolve().name} at {', '.join(map(str, sorted(set(bits), reverse=True)))} bits"
        write_report(comparison_report(title, rows, caption, [command]), draft)
    print(plain_text(table))
    print(f"{caption}\n{out / 'report.html'}")
    if failures:
        raise CamelidError(
            f"{len(failures)} of {len(rows) - 1 + len(failures)} could not be made: {failures[0]}"
        )


def measured(folder: Path, yardstick: Yardstick) -> dict[str, Any]:
    """What a process of its own finds of a model."""
    command = [sys.executable, "-m", "camelid.workflows.compare", str(folder), json.dumps(asdict(yardstick))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
        raise CamelidError(f"{folder.name} cannot be measured: {lines[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for warning in found.get("task", {}).get("warnings", ()):
        _say(f"{folder.name}: {warning}")
    return found


def measure(folder: Path, yardstick: Yardstick) -> dict[str, Any]:
    """Size, perplexity, speed, memory and the grades of a task's questions of the model in this process."""
    # The memory that is measured is this process's own.
    engine = Engine.load(folder, device="cpu")
    documents = _documents(engine, yardstick)
    found = perplexity(engine, documents, yardstick.convention)
    new_tokens, seconds = _timed(engine, documents[0][:1000])
    result: dict[str, Any] = {
        "megabytes": sum(path.stat().st_size for path in weight_files(folder)) / 1e6,
        "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte,
        "tokens_per_second": new_tokens / seconds,
        "peak_megabytes": _peak_bytes() / 1e6,
        "tokens": found.tokens,
        "new_tokens": new_tokens,
        "dtype": dtype_name(engine.dtype),
    }
    if (task := yardstick.load_task()) is not None:
        result["task"] = _asked(task, engine, yardstick.chat)
    return result


def _documents(engine: Engine, yardstick: Yardstick) -> list[str]:
    """The texts that are measured: all of them for a published convention, else the first `MOST_TOKENS` tokens."""
    documents, left = [], MOST_TOKENS
    for text, _ in Corpus(yardstick.texts):
        if yardstick.convention == "overlapping":
            ids = engine.tokenizer.encode(text)
            if len(ids) > left:
                text = text[: len(engine.tokenizer.decode(ids[:left]))]
            left -= len(ids)
        documents.append(text)
        if left <= 0:
            break
    return documents


def _timed(engine: Engine, text: str) -> tuple[int, float]:
    """How many tokens follow the first two of a text, whatever would end it, and the seconds of the best of three."""
    opening = engine.encode(text)[:2]
    room = min(NEW_TOKENS, engine.context_length - len(opening))
    endless = copy.copy(engine.tokenizer)
    endless.stop_ids = frozenset()
    best = math.inf
    for _ in range(3):
        said = Generation(opening, Sampling(max_new_tokens=room), 0, room, endless)
        began = time.perf_counter()
        for _ in engine.run([said]):
            pass
        best = min(best, time.perf_counter() - began)
    return room, best


def _peak_bytes() -> int:
    """Of this process alone: under Linux, what getrusage says begins with what the parent held."""
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _asked(task: Task, engine: Engine, chat: bool) -> dict[str, Any]:
    # A model that quantising has broken may never end an answer: that is a finding, not a failure.
    evaluation = evaluate(task, make_program(task, chat=chat), engine, allow_cut=True)
    result = evaluation.results[0]
    interval = result.interval
    return {
        "said": f"{result.task} ({result.metric}, {result.program}, {result.n} questions)",
        "accuracy": [result.value, *((interval.low, interval.high) if interval else (result.value,) * 2)],
        "values": evaluation.values(result.metric),
        "warnings": evaluation.warnings,
    }


def found_row(
    method: str, bits: int | None, folder: Path, found: dict[str, Any], before: dict[str, Any] | None
) -> Measured:
    """What `measure` found of a folder; `before` is what it found of the model as it is."""
    keys = ("megabytes", "perplexity", "bits_per_byte", "tokens_per_second", "peak_megabytes")
    group = read_config(folder).get("quantization_config", {}).get("group_size")
    accuracy = difference = None
    if "task" in found:
        value, low, high = (100 * each for each in found["task"]["accuracy"])
        accuracy = Estimate(value, low, high)
        if before is not None:
            change = compare_grades(before["task"]["values"], found["task"]["values"])
            value, low, high = change.difference, change.interval.low, change.interval.high
            difference = Estimate(100 * value, 100 * low, 100 * high)
    numbers = {key: found[key] for key in keys}
    return Measured(method, bits, group, **numbers, accuracy=accuracy, difference=difference)


def _caption(source: Path, yardstick: Yardstick, found: dict[str, Any], computed: str) -> str:
    of = f"{found['tokens']:,} tokens of {', '.join(Path(text).name for text in yardstick.texts)}"
    apart = ", each document by itself" if yardstick.convention == "overlapping" else ""
    windows = described(yardstick.convention, read_spec(source).context_length)
    said = [f"Perplexity a token and bits a byte: {of}{apart}, in {windows}. Computed: {computed}."]
    if "task" in found:
        said.append(
            f"Accuracy: {found['task']['said']}, with its 95 % interval; the difference to the model as it is, in points, "
            "question by question, with a bootstrap interval."
        )
    said.append(
        f"Tokens a second: {found['new_tokens']} new ones of one greedy sequence, the best of three. "
        "Peak: the resident memory of a process that does no more than this."
    )
    return " ".join(said)


def plain_text(table: Table) -> str:
    """A table for a terminal: columns set to the right, two blanks apart."""
    cells = [table.columns, *(tuple(map(show_cell, row)) for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells
    )


def _say(text: str) -> None:
    print(f"camelid: {text}", file=sys.stderr, flush=True)


def _main(folder: str, yardstick: str) -> int:
    try:
        print(json.dumps(measure(Path(folder), Yardstick(**json.loads(yardstick)))))
    except CamelidError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
