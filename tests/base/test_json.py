"""JSON files: what is written comes back, whole and in UTF-8; what is not JSON is named with its place."""

import ast
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.base.errors import CamelidError
from camelid.base.json import (
    NotJSONError,
    json_line,
    parse,
    read_json,
    read_table,
    values_in,
    whole_lines,
    write_json,
)

SOURCE = Path(__file__).resolve().parents[2] / "src" / "camelid"
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json(path, value)
    assert read_json(path) == value
    assert path.read_text(encoding="utf-8") == json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


@given(st.lists(values, max_size=5), st.integers(0, 9))
def test_lines_come_back_up_to_the_one_cut_short(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], cut: int
) -> None:
    path = tmp_path_factory.mktemp("json") / "a.jsonl"
    whole = "".join(map(json_line, rows)).encode()
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    found = whole_lines(path, remedy="")
    assert [value for value, _ in found] == rows[: path.read_bytes().count(b"\n")]
    ends = [index + 1 for index, byte in enumerate(path.read_bytes()) if byte == ord("\n")]
    assert [end for _, end in found] == ends


def test_bytes_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"ü": [1, 0.5], "path": "\udcff漢"})
    assert path.read_bytes() == '{\n  "ü": [\n    1,\n    0.5\n  ],\n  "path": "\\udcff漢"\n}\n'.encode()
    assert read_table(path) == {"ü": [1, 0.5], "path": "\udcff漢"}
    assert json_line({"ü": "\n\r"}) == '{"ü": "\\n\\r"}\n'


def test_nan_and_infinity(tmp_path: Path) -> None:
    path, odd = tmp_path / "a.json", {"a": [math.inf, 1.5], "b": (-math.inf, math.nan)}
    write_json(path, {"before": 1})
    with pytest.raises(CamelidError, match=r"a\.json: JSON cannot store NaN or infinite numbers"):
        write_json(path, odd)
    assert read_table(path) == {"before": 1}
    write_json(path, odd, measured=True)
    assert read_table(path) == {"a": [None, 1.5], "b": [None, None]}
    assert parse(json_line(-math.inf)) == -math.inf


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": 1', r"a\.json: not JSON at column 8"),
        (b'{\n"a": }', r"a\.json: not JSON at line 2, column 6"),
        (b'"\xff"', r"a\.json: .*utf-8.*position 1"),
        (b"[" * 100_000, r"a\.json: not JSON: .*nested too deeply"),
        (b"1" * 10_000, r"a\.json: not JSON: .*digits"),
        (b"[]", r"a\.json: expected a JSON object, got list"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(CamelidError, match=f"(?s){reason}.*; choose another"):
        read_table(path, remedy="choose another")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert read_table(tmp_path / "a.json", optional=True) == {}
    with pytest.raises(CamelidError, match=r"a\.json cannot be read \(No such file"):
        read_table(tmp_path / "a.json")


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{}\n{"a"}\n{}\n')
    with pytest.raises(NotJSONError, match=r"a\.jsonl:2: not JSON at column 5: .*; remove the line"):
        whole_lines(path, remedy="remove the line")


@pytest.mark.parametrize("text", ['[{"a": 1},\n\n [2],\n"x"]', '{"a": 1}\n\n[2]\n"x"'])
def test_values_of_a_file_have_lines(text: str) -> None:
    assert list(values_in(text, Path("a"))) == [({"a": 1}, 1), ([2], 3), ("x", text.count("\n") + 1)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_chunks_change_nothing(size: int) -> None:
    values = [{"a": [1, 2.5, "x,]["]}, 12345, "\n", [], -3e5, True]
    for text in (json.dumps(values, indent=1), " " + json.dumps(values), "\n".join(map(json.dumps, values))):
        chunks = [text[at : at + size] for at in range(0, len(text), size)]
        found = list(values_in(chunks, Path("a")))
        assert [value for value, _ in found] == values
        assert found == list(values_in([text], Path("a")))
    for text in ("[1,\n {'a': 2}]", "[\n1, 2] 3"):
        problems = []
        for chunks in ([text], [text[at : at + size] for at in range(0, len(text), size)]):
            with pytest.raises(NotJSONError) as raised:
                list(values_in(chunks, Path("a")))
            problems.append(str(raised.value))
        assert problems[0] == problems[1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1,\n2", "a:2: the list of rows is truncated"),
        ("1\n}", "a:2: not JSON at column 1"),
    ],
)
def test_broken_values_have_lines(text: str, reason: str) -> None:
    with pytest.raises(NotJSONError, match=reason):
        list(values_in(text, Path("a")))


def test_numbers_of_too_many_digits_are_the_only_bad_values() -> None:
    (number, first), (row, second) = values_in('{"a": ' + "1" * 9999 + '}\n{"a": 1}', Path("a"))
    assert isinstance(number, NotJSONError)
    assert "digits" in str(number)
    assert (first, row, second) == (1, {"a": 1}, 2)


def test_files_are_read_and_written_here_alone() -> None:
    """No other module gives json what it reads of a file, or writes what json gives it."""
    strays = {
        f"{path.relative_to(SOURCE)}:{call.lineno}"
        for path in SOURCE.rglob("*.py")
        if path != SOURCE / "base" / "json.py"
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and _names(call.func) & READS_AND_WRITES | _json(call.func)
        for inner in ast.walk(call)
        if isinstance(inner, ast.Call) and inner is not call
        if (_json(call.func) and _names(inner.func) & READS_AND_WRITES)
        or (_names(call.func) & READS_AND_WRITES and _json(inner.func))
    }
    assert not strays


READS_AND_WRITES = {"read_text", "read_bytes", "write", "write_text", "write_bytes", "write_text_atomically"}


def _names(function: ast.expr) -> set[str]:
    return {function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")}


def _json(function: ast.expr) -> set[str]:
    return (
        {function.attr}
        if isinstance(function, ast.Attribute) and getattr(function.value, "id", "") == "json"
        else set()
    )
