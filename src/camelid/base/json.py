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
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from camelid.base.atomic import write_text_atomically
from camelid.base.errors import CamelidError, reason_of

AGAIN = "fetch or export it again"


class NotJSONError(CamelidError):
    """Text that is not JSON; the message says where and why."""


def parse(text: str | bytes, *, strict: bool = False) -> Any:
    """The value that JSON text holds; raises `NotJSONError`.

    strict: refuse what Python reads and other programs read otherwise: NaN and infinity, a key that comes
    twice in an object, half of a surrogate pair.
    """
    try:
        if not strict:
            return json.loads(text)
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
        if (b"\\u" if isinstance(text, bytes) else "\\u") in text:  # type: ignore[operator]
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except json.JSONDecodeError as error:
        line = "" if error.lineno == 1 else f"line {error.lineno}, "
        raise NotJSONError(f"not JSON at {line}column {error.colno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise NotJSONError(f"not JSON: {_problem(error)}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice[:80]!r} comes twice in an object")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def _problem(error: Exception) -> str:
    """What Python does not read, in words about the text."""
    if isinstance(error, RecursionError):
        return "lists or objects are nested too deeply"
    if "digits" in str(error):
        return f"a whole number has more than {sys.get_int_max_str_digits():,} digits"
    if isinstance(error, UnicodeEncodeError):
        return "a text has half of a surrogate pair"
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


def values_in(chunks: Iterable[str], path: Path) -> Iterator[tuple[Any, int]]:
    """The elements of one list, or of consecutive JSON values, each with its line number in the file at
    `path`, whose text comes in chunks.

    Values are decoded one by one, to know their lines and to hold only one of them. Raises `NotJSONError` at
    the first invalid one; for a value with a number that Python does not read, whose end is known, it is
    yielded.
    """
    text = _Chunks(chunks)
    text.skip(_SPACE)
    in_list = text.buffer[text.at : text.at + 1] == "["
    text.advance(text.at + in_list)
    while True:
        text.skip(_BETWEEN if in_list else _SPACE)
        if text.at == len(text.buffer) or (in_list and text.buffer[text.at] == "]"):
            break
        try:
            value, end = _decoded(text.buffer, text.at)
        except json.JSONDecodeError as error:
            if text.more():
                continue
            line, column = text.place(error)
            raise NotJSONError(f"{path}:{line}: not JSON at column {column}: {error.msg}") from error
        except RecursionError as error:
            raise NotJSONError(f"{path}:{text.line}: not JSON: {_problem(error)}") from error
        if _NUMBER_GOES_ON.match(text.buffer, end) and text.more():
            continue
        yield value, text.line
        text.advance(end)
    if in_list and "".join([text.buffer[text.at :], *text.rest]).strip() != "]":
        raise NotJSONError(f"{path}:{text.line}: the list of rows is truncated or followed by other text")


_DECODER, _LENIENT = json.JSONDecoder(), json.JSONDecoder(parse_int=lambda digits: digits)


def _decoded(text: str, at: int) -> tuple[Any, int]:
    """The value that begins there and its end; a `NotJSONError` for one with a number that Python does not
    read."""
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        return NotJSONError(f"not JSON: {_problem(error)}"), _LENIENT.raw_decode(text, at)[1]


_SPACE, _BETWEEN = re.compile(r"[ \t\r\n]*"), re.compile(r"[ \t\r\n,]*")
_NUMBER_GOES_ON = re.compile(r"[\d.eE+-]*\Z")
"""What is behind a value if the next chunk may be a part of it."""


class _Chunks:
    """Text that is read on as it is needed: the part in memory, the place in it, and that place's line."""

    def __init__(self, chunks: Iterable[str]):
        self.rest = iter(chunks)
        self.buffer = ""
        self.at, self.line = 0, 1
        self._column = 0
        """Characters of the buffer's first line that are gone."""

    def more(self) -> bool:
        """Reads at least as much as is unread, so that a long value is not tried too often; False at the
        end."""
        unread, got = [self.buffer[self.at :]], 0
        for chunk in self.rest:
            unread.append(chunk)
            got += len(chunk)
            if got >= len(unread[0]):
                break
        if got:
            begin = self.buffer.rfind("\n", 0, self.at) + 1
            self._column = self.at - begin + (0 if begin else self._column)
            self.buffer, self.at = "".join(unread), 0
        return got > 0

    def advance(self, to: int) -> None:
        """Moves the place forward in the buffer."""
        self.line += self.buffer.count("\n", self.at, to)
        self.at = to

    def skip(self, pattern: re.Pattern[str]) -> None:
        """Moves behind all that matches, across chunks."""
        while True:
            if (found := pattern.match(self.buffer, self.at)) is not None:
                self.advance(found.end())
            if self.at < len(self.buffer) or not self.more():
                return

    def place(self, error: json.JSONDecodeError) -> tuple[int, int]:
        """Line and column of an error in the buffer, in the whole text."""
        before = self.buffer.count("\n", 0, self.at)
        return self.line - before + error.lineno - 1, error.colno + (self._column if error.lineno == 1 else 0)


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
