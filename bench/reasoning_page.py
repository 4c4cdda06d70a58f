"""The tables and plots of docs/reasoning.md, from the numbers that bench/reasoning.py measured."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from camelid.base.json import read_table
from camelid.tasks.intervals import wilson

DOCS = Path(__file__).parents[1] / "docs"
DATA, PAGE = DOCS / "reasoning", DOCS / "reasoning.md"
IMAGES = DOCS / "images"
END = "<!-- end -->"
Row = Mapping[str, Any]
NAMES = {
    "sums": "sums",
    "coin_flip": "coin flips",
    "last_letters": "last letters",
    "direct": "direct",
    "steps": "chain of thought",
    "parts": "least to most",
}


def rows_of(claim: str) -> list[Row]:
    """The measured rows of a claim."""
    return list(read_table(DATA / f"{claim}.json")["rows"])


def cell(row: Row | None) -> str:
    """Accuracy in per cent with its Wilson interval."""
    if row is None:
        return ""
    interval = wilson(row["right"], row["n"])
    return f"{100 * row['right'] / row['n']:.0f} ({100 * interval.low:.0f} to {100 * interval.high:.0f})"


def difference(row: Row) -> str:
    """A paired difference in points, with its interval and p."""
    p = "< 0.001" if row["p"] < 0.001 else f"{row['p']:.3f}"
    points = [f"{100 * row[key]:+.0f}" for key in ("difference", "low", "high")]
    return f"{points[0]} ({points[1]} to {points[2]}), p {p}"


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def where(rows: Sequence[Row], **wanted: object) -> Row | None:
    """The first row with these values."""
    return next((row for row in rows if all(row.get(key) == value for key, value in wanted.items())), None)


def values(rows: Sequence[Row], key: str) -> list[Any]:
    """The different values of a key, in order."""
    return list(dict.fromkeys(row[key] for row in rows if key in row))


def length_table() -> str:
    rows = rows_of("length")
    lengths = values(rows, "length")
    body = [
        [
            f"{NAMES[skill]}, {NAMES[way]}",
            *(cell(where(rows, skill=skill, way=way, length=n)) for n in lengths),
        ]
        for skill in values(rows, "skill")
        for way in ("direct", "steps")
    ]
    apart = [
        [NAMES[row["skill"]], f"{row['span']} lengths", difference(row)]
        for row in rows
        if row["way"] == "paired"
    ]
    head = table(["steps", *lengths], body)
    return f"{head}\n\n{table(['', '', 'chain of thought minus direct, points'], apart)}"


def sizes_table() -> str:
    rows = sorted(rows_of("sizes"), key=lambda row: (row["parameters"], row["model"]))
    body = []
    for name in values(rows, "model"):
        own = [row for row in rows if row["model"] == name]
        cells = [
            cell(where(own, skill=skill, span="trained", way=way))
            for skill in ("sums", "coin_flip", "last_letters")
            for way in ("direct", "steps")
        ]
        body.append([f"{own[0]['parameters']:,}", *cells])
    head = [
        f"{NAMES[skill]}, {way}"
        for skill in ("sums", "coin_flip", "last_letters")
        for way in ("direct", "CoT")
    ]
    shots = values(rows, "shots")
    learned = [
        [f"{row['parameters']:,}", *(cell(where(rows, model=row["model"], shots=n)) for n in shots)]
        for row in (where(rows, model=name) for name in values(rows, "model"))
        if row
    ]
    return f"{table(['parameters', *head], body)}\n\n{table(['rules, exemplars', *shots], learned)}"


def votes_table() -> str:
    rows = [row for row in rows_of("votes") if row["span"] != "validation"]
    counts = values(rows, "samples")
    body = [
        [f"{span} lengths", *(cell(where(rows, span=span, samples=n)) for n in counts)]
        for span in values(rows, "span")
    ]
    return table(["samples", "greedy", *counts[1:]], body)


def parts_table() -> str:
    rows = rows_of("parts")
    lengths = values(rows, "length")
    body = [
        [NAMES[way], *(cell(where(rows, way=way, length=n)) for n in lengths)]
        for way in ("direct", "steps", "parts")
    ]
    apart = [[f"{row['span']} lengths", difference(row)] for row in rows if row["way"] == "paired"]
    head = table(["names", *lengths], body)
    return f"{head}\n\n{table(['', 'least to most minus chain of thought, points'], apart)}"


def fragile_table() -> str:
    rows = rows_of("fragile")
    body = []
    for way in ("direct", "steps"):
        for varied in values(rows, "varied"):
            own = [row for row in rows if row["way"] == way and row["varied"] == varied]
            best, worst = max(own, key=lambda row: row["right"]), min(own, key=lambda row: row["right"])
            spread = 100 * (best["right"] / best["n"] - worst["right"] / worst["n"])
            body.append(
                [
                    NAMES[way],
                    varied,
                    len(own),
                    f"{spread:.0f}",
                    f"{worst['variant']}: {cell(worst)}",
                    f"{best['variant']}: {cell(best)}",
                ]
            )
    return table(["", "varied", "variants", "spread, points", "worst", "best"], body)


def spoiled_table() -> str:
    rows = rows_of("spoiled")
    body = []
    for kind in values(rows, "kind"):
        cells = []
        for span in values(rows, "span"):
            own = where(rows, kind=kind, span=span)
            cells += [cell(own), difference(own) if own and "p" in own and kind != "right" else ""]
        written = [
            row.get("equations", "") for row in rows if row["kind"] == kind and row["span"] == "trained"
        ]
        body.append([kind, *cells, *written])
    head = ["steps of the exemplars", "trained lengths", "beside right", "longer", "beside right"]
    return table([*head, "of 300 replies with equations first"], body)


def tuned_table() -> str:
    rows = rows_of("tuned")
    lengths = values(rows, "length")
    body = [
        [kind, *(cell(where(rows, kind=kind, length=n)) for n in lengths)]
        for kind in values([row for row in rows if "length" in row], "kind")
    ]
    apart = [[row["kind"], f"{row['span']} lengths", difference(row)] for row in rows if "p" in row]
    head = table(["replies in training; steps", *lengths], body)
    return f"{head}\n\n{table(['', '', 'points'], apart)}"


def verifier_table() -> str:
    rows = rows_of("verifier")
    counts = values(rows, "n")
    ways = [key for key, value in rows[0].items() if isinstance(value, dict) and "value" in value]
    body = [
        [f"{span} lengths, {way}", *(_mean(where(rows, span=span, n=n), way) for n in counts)]
        for span in values(rows, "span")
        for way in ways
    ]
    return table(["samples", *counts], body)


def _mean(row: Row | None, way: str) -> str:
    if row is None:
        return ""
    points = [f"{100 * row[way][key]:.0f}" for key in ("value", "low", "high")]
    return f"{points[0]} ({points[1]} to {points[2]})"


def chains_table() -> str:
    rows = rows_of("chains")
    body = []
    for way, span in dict.fromkeys((row["way"], row["span"]) for row in rows):
        own = {row["verdict"]: row["count"] for row in rows if (row["way"], row["span"]) == (way, span)}
        right = own["sound"] + own["by chance"]
        wrong = sum(own.values()) - right
        nearly = sum(own[verdict] for verdict in ("calculator", "symbols", "step missing"))
        counts = [own[verdict] for verdict in ("sound", "by chance", "calculator", "symbols", "step missing")]
        rest = own["broken"] + own["no answer"]
        share = cell({"right": nearly, "n": wrong}) if wrong else ""
        chance = cell({"right": own["by chance"], "n": right}) if right else ""
        model = "tuned" if way == "tuned" else "prompted"
        body.append([f"{model}, {span} lengths", *counts, rest, chance, share])
    head = ["", "sound", "by chance", "calculator", "symbols", "step missing", "broken"]
    return table([*head, "by chance, % of right", "nearly right, % of wrong"], body)


TABLES: Mapping[str, Callable[[], str]] = {
    "length": length_table,
    "tuned": tuned_table,
    "sizes": sizes_table,
    "votes": votes_table,
    "parts": parts_table,
    "fragile": fragile_table,
    "spoiled": spoiled_table,
    "verifier": verifier_table,
    "chains": chains_table,
}


def written(page: str) -> str:
    """The page with its tables as measured; those of claims without numbers stay as they are."""
    for claim, make in TABLES.items():
        if (DATA / f"{claim}.json").exists():
            begin = f"<!-- measured: {claim} -->"
            before, _, rest = page.partition(begin)
            page = f"{before}{begin}\n{make()}\n{END}{rest.partition(END)[2]}"
    return page


def write_page() -> None:
    """Writes the tables into the page, and the plots beside it."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for claim, plot in PLOTS.items():
        if (DATA / f"{claim}.json").exists():
            plot(IMAGES / f"reasoning-{claim}.svg")


def plot_length(path: Path) -> None:
    """Accuracy by steps, a panel for each skill; last letters also from least to most."""
    rows = [
        *rows_of("length"),
        *(row | {"skill": "last_letters"} for row in rows_of("parts") if row["way"] == "parts"),
    ]
    panels = {NAMES[skill]: [row for row in rows if row["skill"] == skill] for skill in values(rows, "skill")}
    _plot(path, panels, "length", "way", "steps of the question")


def plot_sizes(path: Path) -> None:
    """Accuracy by parameters, a panel for each skill at trained lengths."""
    rows = sorted(rows_of("sizes"), key=lambda row: row["parameters"])
    chosen = [row for row in rows if row.get("span") == "trained"]
    panels = {
        NAMES[skill]: [row for row in chosen if row["skill"] == skill] for skill in values(chosen, "skill")
    }
    panels["rules"] = [
        {**row, "way": f"{row['shots']} exemplars"} for row in rows if row.get("shots") in (0, 1, 4, 16)
    ]
    _plot(path, panels, "parameters", "way", "parameters", logarithmic=True)


def plot_votes(path: Path) -> None:
    """Accuracy by the number of samples."""
    rows = [row for row in rows_of("votes") if row["samples"] and row["span"] != "validation"]
    _plot(path, {"sums": rows}, "samples", "span", "samples", logarithmic=True)


PLOTS = {"length": plot_length, "sizes": plot_sizes, "votes": plot_votes}


def _plot(
    path: Path, panels: Mapping[str, Sequence[Row]], x: str, by: str, label: str, *, logarithmic: bool = False
) -> None:
    """Accuracy with Wilson intervals against a number, a line for each value of `by`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "camelid", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(3.2 * len(panels), 2.8), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for panel, (title, rows) in zip(axes, panels.items(), strict=True):
            for name in values(rows, by):
                own = [row for row in rows if row[by] == name and x in row]
                if not own:
                    continue
                shares = [row["right"] / row["n"] for row in own]
                ends = [wilson(row["right"], row["n"]) for row in own]
                low = [share - end.low for share, end in zip(shares, ends, strict=True)]
                high = [end.high - share for share, end in zip(shares, ends, strict=True)]
                where_x = [row[x] for row in own]
                panel.errorbar(
                    where_x, shares, [low, high], marker="o", ms=3, capsize=2, label=NAMES.get(name, name)
                )
            panel.set(title=title, xlabel=label, ylim=(-0.03, 1.03))
            if logarithmic:
                panel.set_xscale("log")
            panel.legend(fontsize=7, frameon=False)
        axes[0].set_ylabel("accuracy")
        figure.savefig(path, metadata={"Date": None})
