"""The report of a reward model: curves of training, and how well it orders held-out answers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from camelid.base.json import read_table
from camelid.report.training import training_report
from camelid.report.values import Report, Section, Table

QUALITY = "quality.json"
"""Accuracy by length and calibration on the held-out prompts, beside the run's metrics."""
Rows = Sequence[Mapping[str, float]]


def reward_report(folder: Path) -> Report:
    """The page of a run; the tables are those of the last validation, and come at the end of the run."""
    report = training_report(folder)
    if not (folder / QUALITY).is_file():
        return report
    quality = read_table(folder / QUALITY)
    section = Section(
        "Held-out pairs",
        tables=(_by_length(quality["by_length"]), _by_confidence(quality["calibration"])),
    )
    curves, *rest = report.sections
    return replace(report, sections=(curves, section, *rest))


def _by_length(rows: Rows) -> Table:
    """Accuracy by how much longer the better answer is."""
    columns = ("characters more", "accuracy", "of the longer one", "calibration error", "pairs")
    cells = tuple(
        (
            f"{row['longer_by_from']:,.0f} to {row['longer_by_to']:,.0f}",
            row["accuracy"],
            row["longer_wins"],
            row.get("calibration_error"),  # not in the quality.json of earlier versions
            int(row["pairs"]),
        )
        for row in rows
    )
    caption = (
        "By how many characters longer the better answer is. Of the longer one: the accuracy of preferring "
        "the longer answer."
    )
    return Table("Accuracy by difference of lengths", columns, cells, caption)


def _by_confidence(rows: Rows) -> Table:
    cells = tuple((row["confidence"], row["accuracy"], int(row["pairs"])) for row in rows)
    caption = (
        "Confidence: s(|r1 - r2|), the probability that the answer of the higher reward is the better one."
    )
    return Table("Accuracy by confidence", ("mean confidence", "accuracy", "pairs"), cells, caption)
