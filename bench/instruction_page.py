"""The tables of docs/instruction.md, from the numbers that bench/instruction.py measured."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reasoning_page import DOCS, END, table

from camelid.base.json import read_table

DATA, PAGE = DOCS / "instruction", DOCS / "instruction.md"
Row = Mapping[str, Any]
NAMES = {"all": "all rules", "form": "any form"}
WAYS = {"base": "as it is", "full": "all weights", "lora": "LoRA, rank 8"}
TAUGHT = {
    "teacher": "the teacher itself",
    "rows": "rows (from scratch)",
    "teacher's-answers": "teacher's answers",
    "forward": "forward KL",
    "reverse": "reverse KL",
    "reverse-on-policy": "reverse KL, half on-policy",
}


def percent(row: Row | None) -> str:
    """A share in per cent with its interval."""
    if row is None:
        return ""
    return f"{100 * row['mean']:.0f} ({100 * row['low']:.0f} to {100 * row['high']:.0f})"


def ranged(row: Row | None, digits: int = 3) -> str:
    """A mean over seeds with the least and the most."""
    if row is None:
        return ""
    if row["seeds"] == 1 or row["least"] == row["most"]:
        return f"{row['mean']:.{digits}f}"
    return f"{row['mean']:.{digits}f} ({row['least']:.{digits}f} to {row['most']:.{digits}f})"


def around(row: Row) -> str:
    """A mean over questions with its interval."""
    return f"{row['mean']:.0f} ({row['low']:.0f} to {row['high']:.0f})"


def told(rows: Row, names: Mapping[str, str], first: str) -> str:
    """Held-out loss, the share of orders that are followed, and of each rule."""
    kinds = list(
        dict.fromkeys(kind for row in rows.values() if isinstance(row, dict) for kind in row["shares"])
    )
    body = []
    for way, name in names.items():
        if way in rows:
            row = rows[way]
            loss = ranged(row.get("after") or rows.get("full", {}).get("before"))
            cells = [percent(row["shares"].get(kind)) for kind in kinds]
            body.append([name, loss, *cells, ranged(row["tokens"], 0)])
    return table([first, "loss", *map(NAMES.get, kinds, kinds), "tokens"], body)


def costs(rows: Row) -> str:
    """Trained parameters, speed and memory of the ways to tune."""
    body = [
        [
            WAYS[way],
            f"{rows[way]['parameters']:,}",
            ranged(rows[way]["updates"], 0),
            ranged(rows[way]["tokens_per_second"], 0),
            f"{rows[way]['peak_bytes']['mean'] / 1e6:.0f}",
        ]
        for way in ("full", "lora")
        if way in rows and "parameters" in rows[way]
    ]
    return table(["trained", "parameters", "updates", "tokens/s", "peak memory, MB"], body)


def stories(rows: Row) -> str:
    return f"{told(rows, WAYS, 'model')}\n\n{costs(rows)}"


def markers(rows: Row) -> str:
    return told(rows, {"good": "good", "bad": "bad", "none": "none"}, "marker")


def students(rows: Row) -> str:
    ways = {name: row for name, row in rows.items() if isinstance(row, dict)}
    spent = [
        [TAUGHT[way], ranged(row["updates"], 0), ranged(row["seconds"], 0)]
        for way, row in ways.items()
        if "updates" in row and way != "teacher"
    ]
    head = table(["learns from", "updates", "seconds of training"], spent)
    return f"{told(ways, TAUGHT, 'learns from')}\n\n{head}"


def koala(rows: Row) -> str:
    body = [[way, ranged(row["chatgpt"]), ranged(row["people"])] for way, row in rows.items()]
    return table(["trained on", "loss on ChatGPT's answers", "loss on people's answers"], body)


def length(rows: Row) -> str:
    body = [
        [teacher, around(row["teacher"]), around(row["student"]), f"{100 * row['ended']['mean']:.0f} %"]
        for teacher, row in rows.items()
    ]
    return table(["teacher", "tokens of its answers", "tokens of the student's", "end by themselves"], body)


def real(rows: Row) -> str:
    kinds = list(rows["base"]["shares"])
    body = [
        [
            WAYS[way],
            ranged(rows[way].get("after") or rows["full"]["before"]),
            *(percent(rows[way]["shares"].get(kind)) for kind in kinds),
            around(rows[way]["tokens"]),
            f"{100 * rows[way]['ended']:.0f} %",
        ]
        for way in WAYS
        if way in rows
    ]
    body.append(["Alpaca's own answers", "", *("" for _ in kinds), around(rows["rows"]["tokens"]), ""])
    head = ["model", "loss", *map(NAMES.get, kinds, kinds), "tokens", "end"]
    return f"{table(head, body)}\n\n{costs(rows)}"


def test(rows: Row) -> str:
    names = {"user_oriented": "self-instruct's", "koala": "Koala's"}
    body = [
        [WAYS[way], names[kind], row["n"], f"{row['tokens']:.0f}", f"{100 * row['ended']:.0f} %"]
        for way, kinds in rows.items()
        for kind, row in kinds.items()
    ]
    return table(["model", "prompts", "answers", "tokens", "end within the limit"], body)


TABLES: Mapping[str, Callable[[Row], str]] = {
    "stories": stories,
    "markers": markers,
    "students": students,
    "length": length,
    "koala": koala,
    "real": real,
    "test": test,
}


def write_page() -> None:
    """Writes the tables into the page."""
    fill_page(PAGE, DATA, TABLES)


def fill_page(path: Path, data: Path, tables: Mapping[str, Callable[[Row], str]]) -> None:
    """Writes tables into a page, each from its file of numbers; those without one stay as they are."""
    page = path.read_text(encoding="utf-8")
    for claim, make in tables.items():
        numbers, begin = data / f"{claim}.json", f"<!-- measured: {claim} -->"
        if numbers.exists() and begin in page:
            before, _, rest = page.partition(begin)
            page = f"{before}{begin}\n{make(read_table(numbers))}\n{END}{rest.partition(END)[2]}"
    path.write_text(page, encoding="utf-8")
