"""The stage of `camelid make clean`: from files to a folder with rows, what was dropped, and a report.

rows.jsonl      the rows, which `camelid tune` takes by the folder's name
dropped.jsonl   the place of every thread that was dropped, with step and reason
card.json       counts by step and reason, settings, digests of the files
report.html     the same to read
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from camelid.base.atomic import atomic_folder, refuse_used
from camelid.base.digest import digest_paths
from camelid.base.errors import CamelidError
from camelid.base.json import json_line, write_json
from camelid.base.version import __version__
from camelid.base.workers import in_order
from camelid.data.read.files import CARD, MADE_ROWS, data_files, format_of
from camelid.data.read.rows import BadRows, rows_of
from camelid.formats.hub import resolve
from camelid.makers.clean import Cleaner, Counts, Preparation, Prepared
from camelid.makers.pieces import Pieces
from camelid.makers.seen import Seen
from camelid.recipes.clean import CleanRecipe
from camelid.report.cleaning import cleaning_report
from camelid.report.page import write_report
from camelid.runs.licences import rows_of_data
from camelid.text.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

DROPPED = "dropped.jsonl"
BATCH = 32
"""Threads that a worker prepares at once."""
Batch = list[tuple[dict[str, Any], str]]
Start = Callable[..., Callable[[Batch], list[Prepared]]]


def make_clean(recipe: CleanRecipe) -> Path:
    """Cleans the threads of a recipe's files into the new folder `recipe.out`, which appears when it is done.

    Raises `CamelidError` if no thread is kept; then nothing is written.
    """
    files = data_files(recipe.files)
    refuse_used(recipe.out)
    folder = None if recipe.tokenizer is None else resolve(recipe.tokenizer)
    ready = _preparation(recipe, folder)  # refuses a tokenizer that cannot be used before any work
    with atomic_folder(recipe.out) as draft:
        with (
            Seen(draft / "seen.sqlite") as seen,
            (draft / MADE_ROWS).open("w", encoding="utf-8") as kept,
            (draft / DROPPED).open("w", encoding="utf-8") as out,
        ):
            cleaner = Cleaner(seen)

            def drop(step: str, reason: str, where: str) -> None:
                out.write(json_line({"where": where, "step": step, "reason": reason}))

            batches = _batches(_rows(files, cleaner.counts, drop))
            # Other processes make their own.
            start: Start = _preparation if recipe.workers > 1 else (lambda *_: ready)
            worked = in_order(batches, start, (recipe, folder), recipe.workers, "--workers")
            prepared = (
                (one, where) for batch, made in worked for (_, where), one in zip(batch, made, strict=True)
            )
            for row in cleaner.rows(prepared, drop):
                kept.write(json_line(row))
        if not cleaner.counts.rows:
            raise CamelidError(f"no thread could be kept: {_reasons(cleaner.counts)}")
        card = _card(recipe, files, cleaner.counts)
        write_json(draft / CARD, card)
        write_report(cleaning_report(card, str(recipe.out)), draft)
    counts = cleaner.counts
    print(f"{counts.rows:,} rows of {counts.kept:,} threads kept, {sum(counts.dropped.values()):,} dropped")
    print(f"{recipe.out / 'report.html'}")
    return recipe.out


def _preparation(recipe: CleanRecipe, folder: Path | None) -> Callable[[Batch], list[Prepared]]:
    pieces = None
    if folder is not None:
        pieces = Pieces.of(load_tokenizer(folder), recipe.context_length, recipe.turn_tokens)
    prepare = Preparation(recipe, pieces)
    return partial(_prepared, prepare)


def _prepared(prepare: Preparation, batch: Batch) -> list[Prepared]:
    return [prepare(row) for row, _ in batch]


def _batches(rows: Iterable[tuple[dict[str, Any], str]]) -> Iterator[Batch]:
    rest = iter(rows)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _rows(files: list[Path], counts: Counts, drop: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows of the files; malformed ones are counted and listed."""
    for path in files:
        bad, listed = BadRows(skip=True), 0
        for row, where in rows_of(path, format_of(path), bad):
            listed = _list_bad(bad, listed, counts, drop)
            yield row, where
        _list_bad(bad, listed, counts, drop)


def _list_bad(bad: BadRows, listed: int, counts: Counts, drop: Any) -> int:
    for problem in bad.listed[listed:]:
        counts.read += 1
        counts.dropped["read", "a malformed row"] += 1
        drop("read", "a malformed row", problem)
    return len(bad.listed)


def _reasons(counts: Counts) -> str:
    return (
        ", ".join(f"{reason} {count:,}" for (_, reason), count in counts.dropped.most_common()) or "none read"
    )


def _card(recipe: CleanRecipe, files: list[Path], counts: Counts) -> dict[str, Any]:
    return {
        "maker": "clean",
        "camelid": __version__,
        "data": digest_paths(files),
        "licences": rows_of_data(files),
        "counts": {
            "threads": counts.read,
            "kept": counts.kept,
            "rows": counts.rows,
            "dropped": sum(counts.dropped.values()),
        },
        "steps": counts.steps(),
        "mended": dict(counts.mended.most_common()),
        "settings": recipe.model_dump(mode="json", exclude={"stage", "out", "files"}),
    }
