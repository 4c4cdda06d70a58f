"""Files in the shape of public bug reports: compressed, with quotes, damaged, with one long line."""

import csv
import gzip
import importlib.util
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.base.errors import CamelidError
from camelid.data.read import compressed, files
from camelid.data.read.compressed import open_bytes
from camelid.data.read.conversations import Conversations
from camelid.data.read.corpus import Corpus
from camelid.data.read.files import parts_of
from camelid.data.read.text_to_text import TextPairs
from camelid.evals.training_text import kind_of
from camelid.text.vocabulary import END_OF_TEXT
from camelid.text.vocabulary_learning import first_bytes
from camelid.workflows.check import check

ZSTANDARD = any(map(importlib.util.find_spec, ("zstandard",))) or sys.version_info >= (3, 14)


class StoredFrame:
    """A stand-in for zstandard's decompressor, for frames whose bytes are stored as they are."""

    def __init__(self) -> None:
        self.eof, self.unused_data, self._held = False, b"", b""

    def decompress(self, data: bytes) -> bytes:
        self._held += data
        if not self._held.startswith(b"\x28\xb5\x2f\xfd"[: len(self._held)]):
            raise RuntimeError  # as some versions do: without words
        if len(self._held) < 9 or len(self._held) < 9 + self._held[5]:
            return b""
        size = self._held[5]
        self.eof, self.unused_data = True, self._held[9 + size :]
        return self._held[9 : 9 + size]


@pytest.fixture(params=["installed", "stand-in"])
def zstandard(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "installed":
        if not ZSTANDARD:
            pytest.skip("no Zstandard here: neither Python 3.14 nor the package zstandard")
        return
    module = types.ModuleType("zstandard")
    module.ZstdDecompressor = lambda max_window_size: types.SimpleNamespace(decompressobj=StoredFrame)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    monkeypatch.setitem(sys.modules, "zstandard", module)


def frame(text: bytes) -> bytes:
    """A Zstandard frame of one stored block (RFC 8878, sections 3.1.1.1 and 3.1.1.2)."""
    header = (len(text) << 3 | 1).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(text)]) + header + text


def texts(path: Path, skip: bool = False) -> list[str]:
    return [text for text, _ in Corpus(path, skip)]


@pytest.mark.usefixtures("zstandard")
@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.JSONL.ZSTD"])
def test_zstandard_frames_are_read_one_after_the_other(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    rows = [f'{{"text": "row {number}"}}\n'.encode() for number in range(3)]
    path = tmp_path / name
    for content in (
        frame(b"".join(rows)),
        frame(rows[0]) + frame(rows[1] + rows[2][:5]) + frame(rows[2][5:]),
    ):
        path.write_bytes(content)
        for size in (1 << 17, 7):
            monkeypatch.setattr(compressed, "_CHUNK", size)
            assert texts(path) == ["row 0", "row 1", "row 2"]


@pytest.mark.usefixtures("zstandard")
def test_damaged_zstandard_gives_a_reason(tmp_path: Path):
    path = tmp_path / "a.jsonl.zst"
    whole = frame(b'{"text": "a row"}\n')
    for content in (whole[:-3], whole[:4], whole + whole[:6], whole + b"rubbish", b"\x50\x2a\x4d\x18"):
        path.write_bytes(content)
        with pytest.raises(CamelidError, match=r"a.jsonl.zst") as raised:
            texts(path)
        assert not str(raised.value).rstrip().endswith(":")


@pytest.mark.parametrize("error", [OSError(), EOFError(), OSError(5, ""), OSError(2, "No such file")])
def test_no_reason_is_empty(tmp_path: Path, error: Exception):
    path = tmp_path / "a.txt"
    path.write_text("a")
    with pytest.raises(CamelidError, match=r"cannot be read: (OSError|EOFError|\[Errno 5\]|No such file)"):  # noqa: SIM117
        with open_bytes(path):
            raise error


def test_archives_are_named(tmp_path: Path):
    path = tmp_path / "a.jsonl.zip"
    path.write_bytes(b"PK\x03\x04" + b"x" * 20)
    with pytest.raises(CamelidError, match="compressed with ZIP, which is not read: unpack it"):
        Corpus(path)


TSV = {
    "swallow.tsv": (
        ['2\t"It was small.', "3\tIt was brown.", '4\tAnd it ran away."', "5\tThen he went home."],
        4,
    ),
    "four.TSV": (['1\t"Begun, he said.', "2\tThe second row.", '3\t"The third row."', "4\tLast row."], 4),
}


@pytest.mark.parametrize("name", TSV)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_quotes_in_tsv_are_text(tmp_path: Path, name: str, end: str, packed: bool):
    lines, count = TSV[name]
    path = tmp_path / (f"{name}.GZ" if packed else name)
    content = end.join(["id\ttext", *lines, ""]).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    wanted = list(csv.DictReader(["id\ttext", *lines], delimiter="\t", quoting=csv.QUOTE_NONE))
    assert texts(path) == [row["text"] for row in wanted]
    assert len(wanted) == count


def test_a_tsv_row_of_other_width_is_a_bad_row(tmp_path: Path):
    path = tmp_path / "a.tsv"
    path.write_text("id\ttext\n\n1\ta\tb\n2\tgood\n")
    with pytest.raises(CamelidError, match=r"a.tsv:3: the row has 3 fields, the header 2"):
        texts(path)
    assert texts(path, skip=True) == ["good"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", '"text","id"\n"a row","1"\n'),  # miller#161: the mark before a quoted header
        ("a.jsonl", '{"text": "a row"}\n'),  # datasets#8241
        ("a.json", '[{"text": "a row"}]'),
        ("a.tsv", "text\tid\na row\t1"),
        ("a.CSV", 'text,id\r\n"a row",1\r\n'),
    ],
)
def test_a_byte_order_mark_is_not_part_of_the_first_field(tmp_path: Path, name: str, content: str):
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert texts(path) == ["a row"]


def test_a_cut_second_member_of_an_archive_is_an_error(tmp_path: Path):
    path = tmp_path / "a.jsonl.gz"
    member = gzip.compress(b'{"text": "a row"}\n')
    path.write_bytes(member + member)
    assert len(texts(path)) == 2
    path.write_bytes(member + member[:-9])
    with pytest.raises(CamelidError, match=r"a.jsonl.gz cannot be read: .*end-of-stream"):
        texts(path)


BAD = {
    "digits": ('{"text": "a", "n": ' + "9" * 5000 + "}", "a whole number has more than 4,300 digits"),
    "nesting": ('{"text": "a", "n": ' + "[" * 200_000 + "]" * 200_000 + "}", "nested too deeply"),
    "words": ("not json", "not JSON at column 1"),
    "a list": ("[1]", "a row must be an object"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("first", [True, False])
def test_a_row_that_is_not_read_can_be_skipped(
    tmp_path: Path, bad: str, first: bool, capsys: pytest.CaptureFixture
):
    line, message = BAD[bad]
    rows = [line, '{"text": "a good row"}', '{"text": "another"}']
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(rows if first else [rows[1], rows[0], rows[2]]))
    place = f"a.jsonl:{1 if first else 2}: .*{message}"
    with pytest.raises(CamelidError, match=place):
        texts(path)
    assert texts(path, skip=True) == ["a good row", "another"]
    with pytest.raises(CamelidError, match="1 check failed"):
        check([str(path)])
    check([str(path)], skip_bad_rows=True)
    assert "2 documents, 1 bad rows skipped" in capsys.readouterr().out


def test_a_long_number_in_a_list_of_rows_can_be_skipped(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a"},\n {"text": "b", "n": ' + "9" * 5000 + '},\n {"text": "c"}]')
    with pytest.raises(CamelidError, match=r"a.json:2 \(row 2\): .*digits"):
        texts(path)
    assert texts(path, skip=True) == ["a", "c"]


def test_nothing_but_bad_rows_does_not_advise_the_flag_that_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    path = tmp_path / "a.jsonl"
    path.write_text("not json\nnor this\n")
    with pytest.raises(CamelidError):
        check([str(path)], skip_bad_rows=True)
    shown = capsys.readouterr().out
    assert "a.jsonl:1: not JSON" in shown
    assert "--skip-bad-rows" not in shown


FIELDS = {
    "story": (
        '{"story": "Once.", "instruction": {"prompt": "x"}, "source": "GPT-4"}',
        "rename `story` to `text`",
    ),
    "content": ('{"id": 1, "content": "Once."}', "rename `content` to `text`"),
    "capital": ('{"Text": "Once."}', "rename `Text` to `text`"),
    "question": (
        '{"Question": "a", "Answer": "b"}',
        "rename `Question` to `prompt` and `Answer` to `completion`",
    ),
    "dialogue": ('{"dialogue": [{"role": "user", "content": "a"}]}', "rename `dialogue` to `messages`"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_unknown_fields_are_named_with_what_to_rename(tmp_path: Path, name: str):
    row, advice = FIELDS[name]
    path = tmp_path / "a.jsonl"
    path.write_text(row)
    reader = Conversations if name in ("question", "dialogue") else Corpus
    with pytest.raises(CamelidError, match=advice) as raised:
        list(reader(path))
    assert "looks like a conversation" not in str(raised.value)
    if name == "question":  # evaluation items have these keys, in lower case
        return
    with pytest.raises(CamelidError, match=advice) as raised:
        kind_of([path])
    for known in ("Rows for pretraining have `text`", "conversations have messages", "evaluation items have"):
        assert known in str(raised.value)


def test_pairs_say_what_to_rename(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("Document,Summary\na,b\n")
    with pytest.raises(CamelidError, match="rename `Document` to `input` and `Summary` to `target`"):
        list(TextPairs(path))


@pytest.mark.parametrize(
    ("name", "header", "message"),
    [
        ("a.csv", "id;text\n1;a", "separated by commas here, not by ';'"),
        ("a.csv", "id\ttext\n1\ta", "separated by commas here, not by '.t'"),
        ("a.tsv", "id,text\n1,a", "separated by tabs here, not by ','"),
        ("a.csv", "text,text\na,b", "the header has the field 'text' twice"),
    ],
)
def test_a_header_with_another_separator_is_named(tmp_path: Path, name: str, header: str, message: str):
    path = tmp_path / name
    path.write_text(header)
    with pytest.raises(CamelidError, match=message):
        texts(path)


@given(
    pieces=st.lists(
        st.sampled_from(["a", " ", "é", "\U0001f980", END_OF_TEXT, END_OF_TEXT[:6], "\n", "\r\n"]),
        max_size=60,
    )
)
def test_long_lines_in_parts_are_the_same_text(tmp_path_factory: pytest.TempPathFactory, pieces: list[str]):
    path = tmp_path_factory.mktemp("parts") / "a.txt"
    text = "".join(pieces)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "LONGEST_LINE", 20)
        parts = list(parts_of(path, END_OF_TEXT))
    assert "".join(part for _, part in parts) == text
    assert sum(part.count(END_OF_TEXT) for _, part in parts) == text.count(END_OF_TEXT)
    assert all(part.count("\n") <= 1 for _, part in parts)


def test_a_bad_byte_in_a_long_line_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "LONGEST_LINE", 20)
    path = tmp_path / "a.txt"
    path.write_bytes(b"first\n" + b"ab " * 50 + b"\xff" + b" cd" * 50)
    with pytest.raises(CamelidError, match=r"a.txt:2: byte 156 \(0xFF\) is not UTF-8"):
        texts(path)


@pytest.mark.parametrize("text", ["word " * 300_000, "x" * 1_500_000, "\n".join(["a line"] * 200_000)])
def test_a_sample_has_about_the_bytes_asked_for(text: str):
    parts = list(first_bytes([text, "not reached"], 100_000))
    assert 100_000 <= sum(len(part.encode()) for part in parts) <= 140_000
    assert text.startswith("".join(parts))
