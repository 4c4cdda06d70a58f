"""Hostile data files: every reader gives what it can read, or one message with file and reason."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hostile import VALUES, WORDS, message
from hypothesis import given, settings
from hypothesis import strategies as st

from camelid.data.read.conversations import Conversations
from camelid.data.read.corpus import Corpus
from camelid.data.read.text_to_text import TASKS, TextPairs
from camelid.evals.training_text import kind_of

FEW = settings(max_examples=40, deadline=None, derandomize=True, database=None)
FIELDS = st.sampled_from(
    ("text", "Text", "messages", "conversations", "role", "content", "instruction", "output", "prompt",
     "completion", "input", "target", "label", "sentence", "history", "system", *WORDS)
)  # fmt: skip
ROWS = st.lists(st.dictionaries(FIELDS, VALUES, max_size=4) | VALUES, min_size=1, max_size=4)
READERS: dict[str, Callable[[Path, bool], object]] = {
    "Corpus": lambda path, skip: list(Corpus(path, skip)),
    "Conversations": lambda path, skip: list(Conversations(path, skip)),
    "TextPairs": lambda path, skip: list(TextPairs(path, None, skip)),
    "task": lambda path, skip: list(TextPairs(path, "cola", skip)),
    "kind_of": lambda path, skip: kind_of([path], skip),
}
COMPRESSION = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def check(content: bytes, name: str) -> None:
    """Reads the file with every reader, with and without skipping."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        for reader in READERS.values():
            for skip in (False, True):
                found = message(lambda reader=reader, skip=skip: reader(path, skip))
                if found is not None:
                    assert str(path) in found
                    assert not found.rstrip().endswith((":", "()"))
                    assert len(found) < 3000
                    assert not (skip and "skip" in found.replace("were skipped", "")), found


@FEW
@given(rows=ROWS, suffix=st.sampled_from((".jsonl", ".json", ".JSONL", "")), damage=st.integers(-1, 60))
def test_rows_of_any_values(rows: list[object], suffix: str, damage: int):
    lines = [json.dumps(row) for row in rows]
    text = f"[{','.join(lines)}]" if suffix == ".json" else "\n".join(lines)
    content = text.encode()
    if damage >= 0:
        content = content[:damage] + b"\xff\x00{"[damage % 3 : damage % 3 + 1] + content[damage + 1 :]
    check(content, f"rows{suffix}")


@FEW
@given(
    cells=st.lists(
        st.lists(st.sampled_from(("text", "a", '"', '""', '"a"', "\r", "", "é", "1;2", "\\")), max_size=4),
        max_size=4,
    ),
    suffix=st.sampled_from((".csv", ".tsv", ".CSV", ".tsv.gz", ".csv.bz2", ".TSV.XZ")),
)
def test_tables_of_any_cells(cells: list[list[str]], suffix: str):
    between = "\t" if ".tsv" in suffix.lower() else ","
    content = "\n".join(between.join(row) for row in cells).encode()
    packed = COMPRESSION["." + suffix.lower().split(".")[2] if suffix.count(".") == 2 else ""](content)
    check(packed, f"table{suffix}")


@FEW
@given(
    kind=st.sampled_from(sorted(COMPRESSION)),
    cut=st.integers(0, 80),
    magic=st.sampled_from(
        (b"", b"\x28\xb5\x2f\xfd", b"PAR1", b"PK\x03\x04", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", b"\xff\xfe")
    ),
    suffix=st.sampled_from((".jsonl", ".txt", ".parquet", ".zst")),
)
def test_damaged_archives(kind: str, cut: int, magic: bytes, suffix: str):
    content = COMPRESSION[kind](b'{"text": "a row"}\n' * 3)
    check((magic + content)[: len(magic) + cut], f"file{suffix}{kind}")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "value", ["9" * 5000, "inf", float("inf"), float("nan"), 10**400, [], {}, None, -1, "٣", True]
)
def test_labels_of_any_type(tmp_path: Path, task: str, value: object):
    path = tmp_path / "a.jsonl"
    row = dict.fromkeys((*TASKS[task].fields, TASKS[task].column), "a") | {TASKS[task].column: value}
    # 10**400 has fewer digits than the limit of Python
    path.write_text(json.dumps(row))
    found = message(lambda: list(TextPairs(path, task)))
    assert found is None or (str(path) in found and len(found) < 1000)


def test_paths_that_are_no_files(tmp_path: Path):
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path / ("x" * 5000), tmp_path / "pipe", tmp_path):
        found = message(lambda path=path: Corpus(path))
        assert found is not None
        assert str(path)[:40] in found
