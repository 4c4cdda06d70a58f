"""Rows of JSON, JSON lines, CSV and Parquet files, each with its location."""

import csv
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError, reason_of, shortened
from camelid.base.json import NotJSONError, parse, values_in
from camelid.data.read.files import LONGEST_LINE, Format, lines_of, parts_of

Row = dict[str, Any]


class BadRows:
    """Policy for bad rows: raise, or with `skip` leave them out and list them."""

    def __init__(self, skip: bool):
        self.skip = skip
        self.listed: list[str] = []

    def add(self, where: str, problem: str) -> None:
        """Lists the row if bad rows are skipped; otherwise raises `CamelidError`."""
        if not self.skip:
            raise CamelidError(
                f"{where}: {problem} (fix the row; or skip and list bad rows with --skip-bad-rows, which is "
                "--data.skip-bad-rows where a command has --data.train)"
            )
        self.listed.append(f"{where}: {problem}")

    @property
    def first(self) -> str:
        """The end of a message about rows of which none is left: how many were skipped, and the first."""
        count = len(self.listed)
        return f": {count:,} bad rows were skipped, the first: {self.listed[0]}" if count else ""


def rows_of(path: Path, format: Format, bad: BadRows) -> Iterator[tuple[Row, str]]:
    """Rows with their `file:line`, in order; malformed ones go to `bad`.

    Raises `CamelidError` for a text file, which has none.
    """
    if format == "text":
        raise CamelidError(
            f"{path}: it is read as text, by its name; rows are JSON, JSON lines, CSV, TSV or Parquet"
        )
    reader = {
        "JSON": _json_rows,
        "JSON lines": _json_line_rows,
        "CSV": _csv_rows,
        "TSV": _tsv_rows,
        "Parquet": _parquet_rows,
    }[format]
    for row, where in reader(path, bad):
        if isinstance(row, dict):
            yield row, where
        else:
            bad.add(where, f"a row must be an object with named fields, not {type(row).__name__}")


def _json_line_rows(path: Path, bad: BadRows) -> Iterator[tuple[Any, str]]:
    for number, line in lines_of(path):
        if line.isspace():
            continue
        try:
            row = parse(line.rstrip())
        except NotJSONError as error:
            bad.add(f"{path}:{number}", str(error))
        else:
            yield row, f"{path}:{number}"


def _json_rows(path: Path, bad: BadRows) -> Iterator[tuple[Any, str]]:
    """The elements of one list, or a sequence of values; malformed JSON always raises."""
    for number, (row, line) in enumerate(values_in(_chunks(path), path), start=1):
        where = f"{path}:{line} (row {number})"
        if isinstance(row, NotJSONError):
            bad.add(where, str(row))
        else:
            yield row, where


def _chunks(path: Path) -> Iterator[str]:
    """The text of a file in parts of about `LONGEST_LINE` characters."""
    held, size = list[str](), 0
    for _, part in parts_of(path, "\n"):
        held.append(part)
        size += len(part)
        if size >= LONGEST_LINE:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)


def _csv_rows(path: Path, bad: BadRows) -> Iterator[tuple[Any, str]]:
    csv.field_size_limit(1 << 30)  # Python's own limit is 131,072 characters
    reader = csv.DictReader((line for _, line in lines_of(path)), strict=True)
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise CamelidError(
                f"{where}: not valid CSV: {error}; a quoted field ends with a quote"
            ) from error
        if where.endswith(":1"):  # the header is read together with the first row
            where = f"{path}:2"
            _check_header(path, list(reader.fieldnames or ()), "commas", (";", "\t", "|"))
        columns = len(reader.fieldnames or ())
        if None in row or None in row.values():
            bad.add(where, f"the row does not have the {columns} fields of the header")
        else:
            yield row, where


def _tsv_rows(path: Path, bad: BadRows) -> Iterator[tuple[Any, str]]:
    """One row a line, its fields between tabs: quotes are part of the text."""
    names: list[str] | None = None
    for number, line in lines_of(path):
        fields = line.rstrip("\r\n").split("\t")
        if fields == [""]:
            continue
        if names is None:
            names = fields
            _check_header(path, names, "tabs", (",", ";", "|"))
        elif len(fields) == len(names):
            yield dict(zip(names, fields, strict=True)), f"{path}:{number}"
        else:
            bad.add(
                f"{path}:{number}", f"the row has {len(fields)} fields, the header {len(names)}, between tabs"
            )


def _check_header(path: Path, names: list[str], separators: str, others: tuple[str, ...]) -> None:
    """Raises `CamelidError` if the header has a name twice, or one field that holds another separator."""
    if twice := [name for index, name in enumerate(names) if name in names[:index]]:
        raise CamelidError(f"{path}:1: the header has the field {shortened(twice[0])} twice; rename one")
    found = [other for other in others if len(names) == 1 and other in names[0]]
    if found:
        raise CamelidError(
            f"{path}:1: the header is one field, {shortened(names[0])}: "
            f"fields are separated by {separators} here, "
            f"not by {found[0]!r}; save the file with {separators}"
        )


def _parquet_rows(path: Path, bad: BadRows) -> Iterator[tuple[Any, str]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
        arrow = importlib.import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise CamelidError(f'{path} is a Parquet file: pip install "camelid[parquet]" to read it') from error
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield row, f"{path}:row {number}"
    except (arrow.ArrowException, ArithmeticError, OSError, TypeError, ValueError) as error:
        raise CamelidError(f"{path} is damaged after row {number}: {reason_of(error)}") from error
