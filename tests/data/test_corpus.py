"""Corpora by shape, and each way in which they can be bad."""

import bz2
import gzip
import json
import lzma
import sys
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError
from camelid.data.read import corpus as corpus_module
from camelid.data.read.corpus import Corpus

ROWS = [{"text": "Llamas hum.", "id": 1}, {"text": "Two\nlines, “quoted” 🦙", "id": 2}]
TEXTS = [str(row["text"]) for row in ROWS]


def texts(path: Path) -> list[str]:
    return [text for text, _ in Corpus(path)]


def places(path: Path) -> list[str]:
    return [where.rpartition("/")[2] for _, where in Corpus(path)]


def one_line(text: object) -> str:
    return str(text).replace("\n", " ")


def write_rows(path: Path) -> Path:
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    elif path.suffix == ".tsv":  # one row a line, so the text has no line break
        path.write_text("text\tid\n" + "".join(f"{one_line(row['text'])}\t{row['id']}\n" for row in ROWS))
    elif path.suffix == ".csv":
        import csv

        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["text", "id"])
            writer.writeheader()
            writer.writerows(ROWS)
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS, indent=1))
    else:
        path.write_text("\n".join(json.dumps(row) for row in ROWS))
    return path


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.ndjson", "a.json", "a.csv", "a.tsv", "a.parquet", "a", "a.data"]
)
def test_rows_of_every_format(tmp_path: Path, name: str):
    path = write_rows(tmp_path / name)
    assert texts(path) == ([one_line(text) for text in TEXTS] if name == "a.tsv" else TEXTS)
    assert "`text`" in Corpus(path).description


def test_json_lines_under_the_name_json(tmp_path: Path):
    write_rows(tmp_path / "a.jsonl").rename(tmp_path / "a.json")
    assert texts(tmp_path / "a.json") == TEXTS


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, bz2.compress])
def test_compression_is_told_by_content(tmp_path: Path, compress):
    path = write_rows(tmp_path / "a.jsonl")
    path.write_bytes(compress(path.read_bytes()))
    assert texts(path) == TEXTS


def test_zstandard_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    (tmp_path / "a.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd....")
    with pytest.raises(CamelidError, match="pip install zstandard"):
        Corpus(tmp_path / "a.jsonl.zst")


def test_parquet_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_rows(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(CamelidError, match=r"camelid\[parquet\]"):
        texts(tmp_path / "a.parquet")


def test_places_are_files_and_lines(tmp_path: Path):
    assert places(write_rows(tmp_path / "a.jsonl")) == ["a.jsonl:1", "a.jsonl:2"]
    assert places(write_rows(tmp_path / "a.json")) == ["a.json:2 (row 1)", "a.json:6 (row 2)"]
    assert places(write_rows(tmp_path / "a.csv")) == ["a.csv:2", "a.csv:3"]
    assert places(write_rows(tmp_path / "a.parquet")) == ["a.parquet:row 1", "a.parquet:row 2"]


def test_a_text_file_is_one_document(tmp_path: Path):
    (tmp_path / "a.txt").write_text("\ufeffOne.\n\nTwo.\n", encoding="utf-8")
    assert texts(tmp_path / "a.txt") == ["One.\n\nTwo."]


def test_separators_make_documents(tmp_path: Path):
    (tmp_path / "a.txt").write_text("One\nmore.\n<|endoftext|>\nTwo.<|endoftext|>Three.\n\n<|endoftext|>\n")
    corpus = Corpus(tmp_path)
    assert [text for text, _ in corpus] == ["One\nmore.", "Two.", "Three."]
    assert places(tmp_path) == ["a.txt:1", "a.txt:4", "a.txt:4"]
    assert corpus.summary == "3 documents, separated by 3 <|endoftext|>"


def test_very_long_texts_are_cut_at_line_ends_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus_module, "LONGEST_DOCUMENT", 100)
    text = "A line of it.\n" * 40
    (tmp_path / "a.txt").write_text(text)
    corpus = Corpus(tmp_path)
    documents = [text for text, _ in corpus]
    assert "".join(documents) == text.rstrip("\n") or "".join(documents) == text
    assert max(map(len, documents)) < 120
    assert "cuts at line ends or spaces" in corpus.summary


def test_folders_are_read_in_order_without_hidden_files(tmp_path: Path):
    for name in ("b.md", "a.txt", ".hidden.txt", "sub/c.txt", ".git/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert texts(tmp_path) == ["a.txt", "b.md", "sub/c.txt"]
    assert Corpus(tmp_path).description.startswith("3 files (text)")
    assert [text for text, _ in Corpus([tmp_path / "b.md", tmp_path / "a.txt"])] == ["b.md", "a.txt"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b" \n ", "is empty"),
        ("a.txt", b"\x89PNG\r\n\0\0", r"binary .byte 6"),
        ("a.txt", "Text".encode("utf-16"), "UTF-16"),
        ("a.txt", b"fine\nna\xefve\n", r"a\.txt:2: byte 7 \(0xEF\) is not UTF-8"),
        ("a.txt", b"\xef\xbb\xbffine\nna\xefve\n", r"a\.txt:2: byte 10 \(0xEF\)"),
        ("a.txt", b"<|endoftext|>\n", "no document"),
        ("a.txt.gz", gzip.compress(b"Hello, llama" * 999, mtime=0)[:-20], "cannot be read"),
        ("a.xz", lzma.compress(b"Hello, llama" * 999)[:40], "cannot be read"),
        ("a.parquet", b"no parquet", "does not begin"),
        ("a.parquet", b"PAR1 broken", "damaged"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b"\n', r"a\.jsonl:2: not JSON at column"),
        ("a.jsonl", b'{"text": "a"}\n["b"]\n', r"a\.jsonl:2: a row must be an object.*list"),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"txt": "b", "id": 3}\n',
            r"a\.jsonl:2: no `text` among the fields `txt`, `id`",
        ),
        ("a.jsonl", b'{"text": 3}\n', r"a\.jsonl:1: `text` is int"),
        ("a.jsonl", b'{"text": ""}\n', r"a\.jsonl:1: `text` is empty"),
        ("a.jsonl", b'{"text": "a\\ud800"}\n', r"a\.jsonl:1: character 1 is a lone surrogate"),
        ("a.jsonl", b'{"messages": []}\n', "conversation, for tuning"),
        ("a.json", b'[{"text": "a"},\n {"text": }]', r"a\.json:2: not JSON at column"),
        ("a.json", b'[{"text": "a"}\n', r"a\.json:\d: the list of rows is truncated"),
        ("a.csv", b"text,id\na,1\nb\n", r"a\.csv:3: the row does not have the 2 fields"),
        ("a.csv", b'text,id\n"a,1\n', r"a\.csv:\d: not valid CSV"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CamelidError, match=message):
        texts(tmp_path / name)


def test_missing_and_mixed_paths_are_named(tmp_path: Path):
    with pytest.raises(CamelidError, match="does not exist"):
        Corpus(tmp_path / "nowhere")
    with pytest.raises(CamelidError, match="folder without files"):
        Corpus(tmp_path)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "replies.jsonl").write_text('{"id": "0"}\n')
    with pytest.raises(CamelidError, match="`camelid make` did not finish, or kept no row"):
        Corpus(tmp_path / "made")
    (tmp_path / "a.txt").write_text("text")
    write_rows(tmp_path / "b.jsonl")
    with pytest.raises(CamelidError, match=r"mixed formats: .*a\.txt is text and .*b\.jsonl is JSON lines"):
        Corpus(tmp_path)


def test_bad_rows_can_be_skipped_and_are_listed(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": 1}\nnonsense\n{"text": "b"}\n')
    corpus = Corpus(tmp_path / "a.jsonl", skip_bad_rows=True)
    assert [text for text, _ in corpus] == ["a", "b"]
    assert [line.split(":")[1] for line in corpus.skipped] == ["2", "3"]
    assert corpus.summary == "2 documents, 2 bad rows skipped"
    with pytest.raises(CamelidError, match="--skip-bad-rows"):
        texts(tmp_path / "a.jsonl")


def test_reads_real_books(shared: Path):
    corpus = Corpus(shared / "data/pretrain/chilit.jsonl.xz")
    assert sum(len(text) for text, _ in corpus) == 24_195_069
    assert corpus.summary == "71 documents"
