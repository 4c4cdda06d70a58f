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


def accuracy(rows: Sequence[Row]) -> tuple[float, float, float]:
    """The mean over seeds, and the ends of what their Wilson intervals cover together.

    rows: one of each seed, with `right` of `n` questions; those without questions are left out.
    """
    rows = [row for row in rows if row["n"]]
    intervals = [wilson(row["right"], row["n"]) for row in rows]
    mean = sum(row["right"] / row["n"] for row in rows) / len(rows)
    return mean, min(each.low for each in intervals), max(each.high for each in intervals)


def cell(rows: Sequence[Row]) -> str:
    """Accuracy in per cent with its interval."""
    if not any(row["n"] for row in rows):
        return ""
    mean, low, high = (100 * end for end in accuracy(rows))
    return f"{mean:.0f} ({low:.0f} to {high:.0f})"


def difference(rows: Sequence[Row]) -> str:
    """The seeds' mean paired difference in points, what their intervals cover together, their largest p."""
    worst = max(row["p"] for row in rows)
    p = "p < 0.001" if worst < 0.001 else f"p {worst:.3f}"
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    mean = sum(row["difference"] for row in rows) / len(rows)
    return f"{100 * mean:+.0f} ({100 * low:+.0f} to {100 * high:+.0f}), {p}"


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def where(rows: Sequence[Row], **wanted: object) -> list[Row]:
    """The rows with these values: one of each seed."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


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
    pairs = where(rows, way="paired")
    apart = [
        [NAMES[skill], f"{span} lengths", difference(where(pairs, skill=skill, span=span))]
        for skill in values(pairs, "skill")
        for span in values(pairs, "span")
    ]
    head = table(["steps", *lengths], body)
    return f"{head}\n\n{table(['', '', 'chain of thought minus direct, points'], apart)}"


def sizes_table() -> str:
    rows = sorted(rows_of("sizes"), key=lambda row: row["parameters"])
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
        [f"{parameters:,}", *(cell(where(rows, parameters=parameters, shots=n)) for n in shots)]
        for parameters in values(rows, "parameters")
    ]
    return f"{table(['parameters', *head], body)}\n\n{table(['rules, exemplars', *shots], learned)}"


def votes_table() -> str:
    rows = rows_of("votes")
    counts = values(rows, "samples")
    body = [
        [f"{name}, {span} lengths", *(cell(where(rows, model=name, span=span, samples=n)) for n in counts)]
        for name in values(rows, "model")
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
    pairs = where(rows, way="paired")
    apart = [[f"{span} lengths", difference(where(pairs, span=span))] for span in values(pairs, "span")]
    head = table(["names", *lengths], body)
    return f"{head}\n\n{table(['', 'least to most minus chain of thought, points'], apart)}"


def fragile_table() -> str:
    rows = rows_of("fragile")
    body = []
    for way in ("direct", "steps"):
        for varied in values(rows, "varied"):
            own = where(rows, way=way, varied=varied)
            variants = {name: where(own, variant=name) for name in values(own, "variant")}
            best, worst = (pick(variants, key=lambda name: accuracy(variants[name])) for pick in (max, min))
            ends = [f"{name}: {cell(variants[name])}" for name in (worst, best)]
            body.append([NAMES[way], varied, len(variants), _spread(own), *ends])
    return table(["", "varied", "variants", "spread, points", "worst", "best"], body)


def _spread(rows: Sequence[Row]) -> str:
    """From a seed's worst variant to its best: the mean of the seeds, the least and the most."""
    shares = [[row["right"] / row["n"] for row in where(rows, seed=seed)] for seed in values(rows, "seed")]
    spreads = [100 * (max(each) - min(each)) for each in shares]
    return f"{sum(spreads) / len(spreads):.0f} ({min(spreads):.0f} to {max(spreads):.0f})"


def spoiled_table() -> str:
    rows = rows_of("spoiled")
    body = []
    for kind in values(rows, "kind"):
        cells = []
        for span in values(rows, "span"):
            own = where(rows, kind=kind, span=span)
            cells += [cell(own), difference(own) if kind not in ("right", "no steps") else ""]
        short = [row for row in where(rows, kind=kind, span="trained") if "equations" in row]
        written = cell([{"right": row["equations"], "n": row["n"]} for row in short])
        body.append([kind, *cells, written])
    head = ["steps of the exemplars", "trained lengths", "beside right", "longer", "beside right"]
    return table([*head, "replies with equations first, %"], body)


def tuned_table() -> str:
    rows = rows_of("tuned")
    lengths = values(rows, "length")
    body = [
        [kind, *(cell(where(rows, kind=kind, length=n)) for n in lengths)]
        for kind in values([row for row in rows if "length" in row], "kind")
    ]
    pairs = [row for row in rows if "p" in row]
    apart = [
        [kind, f"{span} lengths", difference(where(pairs, kind=kind, span=span))]
        for kind in values(pairs, "kind")
        for span in values(pairs, "span")
    ]
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


def _mean(rows: Sequence[Row], way: str) -> str:
    if not rows:
        return ""
    found = [row[way] for row in rows]
    mean = sum(each["value"] for each in found) / len(found)
    low, high = min(each["low"] for each in found), max(each["high"] for each in found)
    return f"{100 * mean:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def chains_table() -> str:
    rows = rows_of("chains")
    verdicts = ("sound", "by chance", "calculator", "symbols", "step missing", "broken", "no answer")
    body = []
    for way, span in dict.fromkeys((row["way"], row["span"]) for row in rows):
        own = where(rows, way=way, span=span)
        counts = [sum(row["count"] for row in where(own, verdict=verdict)) for verdict in verdicts]
        chance, nearly = [], []
        for seed in values(own, "seed"):
            found = {row["verdict"]: row["count"] for row in where(own, seed=seed)}
            right = found["sound"] + found["by chance"]
            chance.append({"right": found["by chance"], "n": right})
            close = sum(found[verdict] for verdict in ("calculator", "symbols", "step missing"))
            nearly.append({"right": close, "n": sum(found.values()) - right})
        model = "tuned" if way == "tuned" else "prompted"
        body.append([f"{model}, {span} lengths", *counts, cell(chance), cell(nearly)])
    return table(["", *verdicts, "by chance, % of right", "nearly right, % of wrong"], body)


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
    """Accuracy by the number of samples, a panel for each model."""
    rows = [row for row in rows_of("votes") if row["samples"]]
    panels = {f"sums, the {name} model": where(rows, model=name) for name in values(rows, "model")}
    _plot(path, panels, "samples", "span", "samples", logarithmic=True)


PLOTS = {"length": plot_length, "sizes": plot_sizes, "votes": plot_votes}


def _plot(
    path: Path, panels: Mapping[str, Sequence[Row]], x: str, by: str, label: str, *, logarithmic: bool = False
) -> None:
    """Accuracy with its interval against a number, a line for each value of `by`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "camelid", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(3.2 * len(panels), 2.8), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for panel, (title, rows) in zip(axes, panels.items(), strict=True):
            for name in values(rows, by):
                own = [row for row in rows if row[by] == name and x in row]
                at = values(own, x)
                if not at:
                    continue
                found = [accuracy(where(own, **{x: place})) for place in at]
                shares = [mean for mean, _, _ in found]
                ends = [[mean - low for mean, low, _ in found], [high - mean for mean, _, high in found]]
                panel.errorbar(at, shares, ends, marker="o", ms=3, capsize=2, label=NAMES.get(name, name))
            panel.set(title=title, xlabel=label, ylim=(-0.03, 1.03))
            if logarithmic:
                panel.set_xscale("log")
            panel.legend(fontsize=7, frameon=False)
        axes[0].set_ylabel("accuracy")
        figure.savefig(path, metadata={"Date": None})
