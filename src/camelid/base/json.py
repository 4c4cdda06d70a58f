"""JSON files: one way to read them, one way to write them.

    read_table(folder / "config.json")           # one object
    write_json(folder / "config.json", table)    # atomically, indented by two spaces
    file.write(json_line(record))                # JSON lines
    whole_lines(path)                            # the same, robust to a crash

Output is UTF-8 without escapes. JSON has no NaN or infinity: `write_json` rejects them, or with `measured`
writes null instead; JSON lines, which only our own code reads, keep Python's NaN and Infinity.
"""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from camelid.base.atomic import write_text_atomically
from camelid.base.errors import CamelidError, reason_of

AGAIN = "fetch or export it again"


class NotJSONError(CamelidError):
    """Text that is not JSON; the message says where and why."""


def parse(text: str | bytes) -> Any:
    """The value that JSON text holds; raises `NotJSONError`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = "" if error.lineno == 1 else f"line {error.lineno}, "
        raise NotJSONError(f"not JSON at {line}column {error.colno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise NotJSONError(f"not JSON: {_problem(error)}") from error


def _problem(error: Exception) -> str:
    """What Python does not read, in words about the text."""
    if isinstance(error, RecursionError):
        return "lists or objects are nested too deeply"
    if "digits" in str(error):
        return f"a whole number has more than {sys.get_int_max_str_digits():,} digits"
    return reason_of(error)  # not UTF-8


def read_json(path: Path, *, remedy: str = AGAIN) -> Any:
    """The value in a JSON file; raises `CamelidError` with the `remedy` if it cannot be read."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CamelidError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    except (NotJSONError, UnicodeDecodeError) as error:
        raise NotJSONError(f"{path}: {error}; {remedy}") from error


def read_table(path: Path, *, optional: bool = False, remedy: str = AGAIN) -> dict[str, Any]:
    """The object in a JSON file; raises `CamelidError` if it cannot be read or is not an object.

    optional: a missing file counts as an empty object.
    """
    if optional and not path.is_file():
        return {}
    table = read_json(path, remedy=remedy)
    if not isinstance(table, dict):
        raise CamelidError(f"{path}: expected a JSON object, got {type(table).__name__}; {remedy}")
    return table


def whole_lines(path: Path, *, remedy: str) -> list[tuple[Any, int]]:
    """The value of each line of a JSON lines file, with the byte offset at which the line ends.

    A last line cut short by a crash is ignored. Raises `NotJSONError`, which names file and line.
    """
    values, end = [], 0
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        end += len(line)
        if not line.endswith(b"\n"):
            break
        try:
            values.append((parse(line.rstrip()), end))
        except NotJSONError as error:
            raise NotJSONError(f"{path}:{number}: {error}; {remedy}") from error
    return values


def values_in(text: str, path: Path) -> Iterator[tuple[Any, int]]:
    """The elements of one list, or of consecutive JSON values, each with its line number in the file at
    `path`.

    Values are decoded one by one to know their lines. Raises `NotJSONError` at the first invalid one; for a
    value with a number that Python does not read, whose end is known, it is yielded.
    """
    decoder, position, line, counted = json.JSONDecoder(), 0, 1, 0
    lenient = json.JSONDecoder(parse_int=lambda digits: digits)
    in_list = text.lstrip()[:1] == "["
    separators = " \t\r\n" + ("[," if in_list else "")
    while True:
        while position < len(text) and text[position] in separators:
            position += 1
            separators = separators.replace("[", "")
        if position == len(text) or (in_list and text[position] == "]"):
            break
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise NotJSONError(
                f"{path}:{error.lineno}: not JSON at column {error.colno}: {error.msg}"
            ) from error
        except RecursionError as error:
            raise NotJSONError(f"{path}:{line}: not JSON: {_problem(error)}") from error
        except ValueError as error:
            value = NotJSONError(f"not JSON: {_problem(error)}")
            _, position = lenient.raw_decode(text, position)
        yield value, line
    if in_list and text[position:].strip() != "]":
        line = 1 + text.count("\n", 0, position)
        raise NotJSONError(f"{path}:{line}: the list of rows is truncated or followed by other text")


def json_line(value: Any) -> str:
    """The value as one line of a JSON lines file, with the line break."""
    return _encodable(json.dumps(value, ensure_ascii=False)) + "\n"


def write_json(path: Path, value: Any, *, measured: bool = False) -> None:
    """Writes the value to the file, atomically.

    measured: write NaN and infinite numbers as null; otherwise they raise `CamelidError`.
    """
    try:
        text = json.dumps(
            _finite(value) if measured else value, indent=2, ensure_ascii=False, allow_nan=False
        )
    except ValueError as error:
        raise CamelidError(f"{path}: JSON cannot store NaN or infinite numbers: {error}") from error
    write_text_atomically(path, text + "\n")


def _encodable(text: str) -> str:
    """JSON with lone surrogates escaped, which UTF-8 cannot encode; file names and foreign texts may have
    them.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
