"""JSON files: one way to read them, one way to write them.

    read_table(folder / "config.json")           # one object
    write_json(folder / "config.json", table)    # whole or not at all, indented by two spaces
    file.write(json_line(record))                # JSON lines
    whole_lines(path)                            # the same, read back after a crash

What is written is UTF-8, with no letter escaped. JSON has no number for NaN and the infinities: `write_json` refuses them, or
writes null where the file reports what was measured; lines, which our own code reads back, keep Python's spelling of them.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from camelid.base.atomic import write_text_atomically
from camelid.base.errors import CamelidError

AGAIN = "fetch or export it again"


class NotJSONError(CamelidError):
    """Text that is not JSON: where in it, and why."""


def parse(text: str | bytes) -> Any:
    """The value that JSON text holds; raises `NotJSONError`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = "" if error.lineno == 1 else f"line {error.lineno}, "
        raise NotJSONError(f"no JSON at {line}column {error.colno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # bytes that are not UTF-8, too many digits, too deep
        raise NotJSONError(f"no JSON: {error}") from error


def read_json(path: Path, *, remedy: str = AGAIN) -> Any:
    """The value in a JSON file; raises `CamelidError` where it cannot be read, with the `remedy` for its reader."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CamelidError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    except (NotJSONError, UnicodeDecodeError) as error:
        raise NotJSONError(f"{path}: {error}; {remedy}") from error


def read_table(path: Path, *, optional: bool = False, remedy: str = AGAIN) -> dict[str, Any]:
    """The object in a JSON file; raises `CamelidError` where it cannot be read or holds anything else.

    optional: a file that is not there is an empty table.
    """
    if optional and not path.is_file():
        return {}
    table = read_json(path, remedy=remedy)
    if not isinstance(table, dict):
        raise CamelidError(f"{path}: a JSON object is needed, got {type(table).__name__}; {remedy}")
    return table


def whole_lines(path: Path, *, remedy: str) -> list[tuple[Any, int]]:
    """The value of each line of a file of JSON lines, with the byte at which the line ends.

    A last line that a crash has cut short is left out. Raises `NotJSONError` that names file and line.
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
    """The elements of one list, or values that stand one after the other, each with its line in the file at `path`.

    They are decoded one by one to know each one's line. Raises `NotJSONError` at a broken one: where it would end is unknown.
    """
    decoder, position, line, counted = json.JSONDecoder(), 0, 1, 0
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
                f"{path}:{error.lineno}: no JSON at column {error.colno}: {error.msg}"
            ) from error
        except (ValueError, RecursionError) as error:
            raise NotJSONError(f"{path}:{line}: no JSON: {error}") from error
        yield value, line
    if in_list and text[position:].strip() != "]":
        line = 1 + text.count("\n", 0, position)
        raise NotJSONError(f"{path}:{line}: the list of rows is cut off or followed by something else")


def json_line(value: Any) -> str:
    """The value as one line of a file of JSON lines, with its end."""
    return _encodable(json.dumps(value, ensure_ascii=False)) + "\n"


def write_json(path: Path, value: Any, *, measured: bool = False) -> None:
    """Replaces the file by one that holds the value.

    measured: null stands for NaN and infinite numbers, which are otherwise refused with `CamelidError`.
    """
    try:
        text = json.dumps(
            _finite(value) if measured else value, indent=2, ensure_ascii=False, allow_nan=False
        )
    except ValueError as error:
        raise CamelidError(f"{path} cannot hold a number that is NaN or infinite: {error}") from error
    write_text_atomically(path, _encodable(text) + "\n")


def _encodable(text: str) -> str:
    """JSON with lone surrogates escaped, which UTF-8 cannot hold; file names and texts of others may have them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
