"""Quantised models of one source side by side: size, how well each predicts a text, how fast it talks, in what memory.

Every model is measured in a process of its own: `python -m camelid.comparing FOLDER TEXT...` prints what it found.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from camelid.atomic import atomic_folder, write_text_atomically
from camelid.data.corpus import Corpus
from camelid.errors import CamelidError
from camelid.infer.engine import Engine
from camelid.infer.perplexity import perplexity
from camelid.model.checkpoint import weight_files
from camelid.quant.quantize import Method
from camelid.report import BarPlot, Cell, Estimate, Report, Section, Table
from camelid.report.page import write_report

METHODS: tuple[Method, ...] = ("rtn", "gptq", "awq")
MOST_TOKENS = 32768
"""Of the text that is predicted; more would tell little more."""
NEW_TOKENS = 128
COLUMNS = ("method", "bits a weight", "MB", "perplexity", "bits a byte", "tokens/s", "peak MB")
CONVENTION = (
    f"Perplexity a token and bits a byte of the first {MOST_TOKENS:,} tokens of the text at most, in windows of the model's context "
    "that overlap by half, so that after the first window every token has at least half a context before it. Tokens a second: "
    f"{NEW_TOKENS} new ones of one greedy sequence, the best of three. Peak: the resident memory of a process that does no more than this."
)


def compare_methods(
    source: Path, out: Path, texts: Sequence[Path], bits: int, quantize_one: Callable[[Method, Path], None]
) -> None:
    """Quantises by every method into a folder of its own in `out`, measures, prints the table and writes report.html.

    quantize_one: is given a method and a folder to write. Raises `CamelidError` where a model cannot be measured.
    """
    with atomic_folder(out) as draft:
        rows: dict[str, dict[str, float]] = {"as it is": measured(source, texts)}
        for method in METHODS:
            quantize_one(method, draft / method)
            rows[method] = {**measured(draft / method, texts), "bits": bits}
        write_text_atomically(draft / "comparison.json", json.dumps(rows, indent=2) + "\n")
        table = Table("", COLUMNS, tuple(_cells(name, row) for name, row in rows.items()), CONVENTION)
        write_report(_report(source, out, bits, rows, table), draft)
    widths = [12, 14, 9, 11, 12, 9, 8]
    for cells in (COLUMNS, *((_text(cell) for cell in row) for row in table.rows)):
        print("".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    print(f"{out / 'report.html'}\n{CONVENTION}")


def measured(folder: Path, texts: Sequence[Path]) -> dict[str, float]:
    """What a process of its own finds of a model."""
    command = [sys.executable, "-m", "camelid.comparing", str(folder), *map(str, texts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CamelidError(f"{folder} cannot be measured: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: Path, texts: Sequence[Path]) -> dict[str, float]:
    """Size, perplexity, speed and memory of the model in this process."""
    engine = Engine.load(folder)
    whole = engine.encode("\n\n".join(text for text, _ in Corpus(texts)))
    found = perplexity(engine, [engine.tokenizer.decode(whole[:MOST_TOKENS])])
    room = min(NEW_TOKENS, engine.context_length - 2)
    speeds = []
    for _ in range(3):
        began = time.perf_counter()
        [[said]] = engine.generate([engine.tokenizer.decode(whole[:2])], max_new_tokens=room)
        speeds.append(len(said.tokens) / (time.perf_counter() - began))
    return {
        "megabytes": sum(path.stat().st_size for path in weight_files(folder)) / 1e6,
        "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte,
        "tokens_per_second": max(speeds),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _cells(name: str, row: dict[str, float]) -> tuple[Cell, ...]:
    keys = ("megabytes", "perplexity", "bits_per_byte", "tokens_per_second", "peak_megabytes")
    return (name, int(row["bits"]) if "bits" in row else None, *(row[key] for key in keys))


def _text(cell: Any) -> str:
    return "-" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _report(source: Path, out: Path, bits: int, rows: dict[str, dict[str, float]], table: Table) -> Report:
    best = min(METHODS, key=lambda name: rows[name]["perplexity"])
    bars = BarPlot(
        "Perplexity",
        "perplexity a token",
        tuple(rows),
        {"": tuple(Estimate(*[row["perplexity"]] * 3) for row in rows.values())},
        "Lower is better.",
    )
    return Report(
        title=f"{source.resolve().name} at {bits} bits",
        summary=(
            f"{best} loses least: perplexity {rows[best]['perplexity']:.3f}, where the model as it is has "
            f"{rows['as it is']['perplexity']:.3f}, in {rows[best]['megabytes']:.1f} instead of "
            f"{rows['as it is']['megabytes']:.1f} MB."
        ),
        commands=(f"camelid chat {out / best}",),
        sections=(Section("The methods", figures=(bars,), tables=(table,)),),
    )


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]])))
