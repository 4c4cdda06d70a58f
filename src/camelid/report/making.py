"""The report of `camelid make`: the card of the made rows, to read."""

from collections.abc import Mapping, Sequence
from typing import Any

from camelid.base.progress import in_time
from camelid.report.values import BarPlot, Cell, Dialogue, Estimate, Passage, Report, Section, Table
from camelid.text.conversation import Conversation


def making_report(
    card: Mapping[str, Any], samples: Sequence[Conversation], folder: str, sections: Sequence[Section] = ()
) -> Report:
    """Counts, cost and provenance of made rows, and some of them; sections: what one maker adds."""
    counts, cost, teacher = card["counts"], card["cost"], card["teacher"]
    dropped = sum(counts["dropped"].values())
    tables = (
        _counted("Dropped rows", "reason", counts["dropped"]),
        _counted("Faults of replies, each attempt counted", "fault", counts["faults"]),
    )
    talks = tuple(Dialogue(f"Row {n}", talk) for n, talk in enumerate(samples, 1))
    return Report(
        title=f"camelid make {card['maker']}",
        summary=f"{counts['rows']:,} rows by {teacher['name']}; {dropped:,} dropped, of "
        f"{counts['replies']:,} replies.",
        facts={
            "teacher": f"{teacher['name']} ({teacher['identity']})",
            "licence of the teacher": teacher["licence"],
            "terms for its output": teacher["terms"],
            "time": in_time(cost["seconds"]),
            "tokens": _shown(cost["tokens"]),
            "tokens per kept row": _shown(cost["tokens_per_row"]),
            "seconds per kept row": _shown(cost["seconds_per_row"]),
        },
        commands=(_next(card["maker"], folder),),
        sections=(
            Section("Counts", tables=tuple(table for table in tables if table.rows)),
            *sections,
            Section("Some rows", dialogues=talks),
            Section("Settings", passages=(_listed(card["settings"]),), folded=True),
            Section("Data", tables=(_table("Digests", ("file", "sha256"), card["data"]),), folded=True),
        ),
        footer=f"Written by camelid {card['camelid']}.",
    )


def _next(maker: str, folder: str) -> str:
    """The command that learns from the rows."""
    if maker == "preferences":
        how = "--training.epochs 1 --training.learning-rate 1e-6"
        return f"camelid align MODEL --method dpo --comparisons {folder} {how} --out runs/dpo"
    return f"camelid tune MODEL --data.train {folder} --training.epochs 3 --out runs/tuned"


def instruction_sections(facts: Mapping[str, Any]) -> tuple[Section, ...]:
    """How diverse new instructions are: their verbs and nouns, and their overlap with the seed tasks."""
    diversity, overlap = facts["diversity"], facts["overlap_with_seeds"]
    rows = tuple(
        (verb, each["count"], ", ".join(f"{noun} {count}" for noun, count in each["nouns"].items()))
        for verb, each in diversity["verbs"].items()
    )
    text = (
        f"{facts['instructions']:,} instructions with {diversity['different_verbs']} verbs and "
        f"{diversity['different_pairs']} pairs of verb and noun, by a list of verbs and the phrase behind "
        f"them; found in {diversity['found']:.0%}."
    )
    return (
        Section(
            "Diversity",
            text,
            figures=(_bars("The most frequent verbs", {verb: count for verb, count, _ in rows}),),
            tables=(Table("Verbs and their nouns", ("verb", "instructions", "nouns"), rows),),
        ),
        Section(
            "Overlap",
            figures=(_bars("Highest ROUGE-L with a seed task, from", overlap),),
        ),
    )


def _bars(title: str, counts: Mapping[str, int]) -> BarPlot:
    values = tuple(Estimate(count, count, count) for count in counts.values())
    return BarPlot(title, "instructions", tuple(counts), {"": values})


def _counted(title: str, column: str, counts: Mapping[str, int]) -> Table:
    return _table(title, (column, "count"), counts)


def _table(title: str, columns: tuple[str, str], values: Mapping[str, Cell]) -> Table:
    return Table(title, columns, tuple(values.items()))


def _shown(value: float | None) -> str:
    return "not reported by the server" if value is None else f"{value:,}"


def _listed(settings: Mapping[str, Any]) -> Passage:
    lines = (f"{name}: {value}" for name, value in settings.items())
    return Passage("", "\n".join(lines), monospace=True)
