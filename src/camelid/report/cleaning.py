"""The report of `camelid make clean`: each step, and what it dropped by reason."""

from collections.abc import Mapping
from typing import Any

from camelid.report.values import Report, Section, Table


def cleaning_report(card: Mapping[str, Any], folder: str) -> Report:
    """Counts by step and reason, from the card."""
    counts = card["counts"]
    steps = tuple(
        (one["step"], f"{one['threads']:,}", reason, count)
        for one in card["steps"]
        for reason, count in (one["dropped"] or {"": 0}).items()
    )
    tables = (
        Table("Dropped threads", ("step", "threads before it", "reason", "dropped"), steps),
        Table("Shortened threads", ("what was left out", "threads"), tuple(card["mended"].items())),
    )
    settings = tuple((name, str(value)) for name, value in card["settings"].items())
    files = tuple(card["data"].items())
    return Report(
        title="camelid make clean",
        summary=f"{counts['rows']:,} rows of {counts['kept']:,} threads; {counts['dropped']:,} of "
        f"{counts['threads']:,} dropped.",
        commands=(f"camelid tune MODEL --data.train {folder} --training.epochs 3 --out runs/tuned",),
        sections=(
            Section("Counts", tables=tuple(table for table in tables if table.rows)),
            Section("Settings", tables=(Table("Settings", ("setting", "value"), settings),), folded=True),
            Section("Data", tables=(Table("Digests", ("file", "sha256"), files),), folded=True),
        ),
        footer=f"Written by camelid {card['camelid']}.",
    )
