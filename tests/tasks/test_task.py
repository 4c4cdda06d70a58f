"""Tasks from files: every known shape, real files of the field, and rows that do not fit."""

import gzip
import json
import lzma
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.tasks.graders import choice, exact, numeric
from camelid.tasks.item import Item
from camelid.tasks.task import Task, load_task, task_names


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "expected", "grader"),
    [
        ({"question": "1 + 1?", "answer": "2"}, {"answer": "2"}, numeric),
        ({"prompt": "Who?", "target": "Tom"}, {"question": "Who?", "answer": "Tom"}, exact),
        ({"question": "When?", "answer": ["May", "in May"]}, {"answer": "May", "aliases": ("in May",)}, exact),
        ({"question": "Who?", "answer": {"value": "Tom", "aliases": ["Tom", "Tommy"]}}, {"aliases": ("Tommy",)}, exact),
        ({"question": "6?", "answer": "It is <<2*3=6>>6.\nSo 6\n#### 6"}, {"answer": "6", "rationale": "It "
            "is 6. So 6"}, numeric),
        ({"question": "6?", "answer": 6, "steps": "2 * 3 = 6."}, {"answer": "6", "rationale": "2 * 3 = 6."}, numeric),
        (
            {"question": "Who?", "choices": {"text": ["Tom", "Ann"], "label": ["1", "2"]}, "answerKey": "2"},
            {"answer": "Ann", "choices": ("Tom", "Ann"), "lettered": True},
            choice,
        ),
        (
            {"ctx": "He sits and", "endings": ["reads.", "flies."], "label": "0"},
            {"question": "He sits and", "answer": "reads.", "lettered": False},
            choice,
        ),
        ({"query": "Is it?", "choices": ["Yes", "No"], "gold": 1}, {"answer": "No", "lettered": False}, choice),
        ({"question": "Is it?", "choices": ["Yes", "No"], "answer": 1}, {"answer": "No", "lettered": True}, choice),
        ({"question": "Is it?", "choices": ["Yes", "No"], "answer": "A"}, {"answer": "Yes"}, choice),
        (
            {"question": "Is it?", "choices": ["yes", "no"], "answer": "no", "grader": "choice"},
            {"answer": "no", "lettered": False},
            choice,
        ),
        ({"question": "Say 5", "answer": "5", "grader": "exact"}, {"answer": "5"}, exact),
    ],
)  # fmt: skip
def test_shapes(tmp_path: Path, row: dict, expected: dict, grader: object) -> None:
    task = load_task(write(tmp_path / "my.jsonl", row))
    assert {key: getattr(task.items[0], key) for key in expected} == expected
    assert task.grader is grader
    assert task.name == "my"


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_compressed_files_hold_the_same_task(tmp_path: Path, pack) -> None:
    plain = write(tmp_path / "test.jsonl", {"question": "1?", "answer": "1"})
    packed = tmp_path / f"test.jsonl.{'gz' if pack is gzip.compress else 'xz'}"
    packed.write_bytes(pack(plain.read_bytes()))
    assert load_task(packed).items == load_task(plain).items
    assert load_task(plain).name == f"{tmp_path.name}/test"


@pytest.mark.parametrize(
    ("path", "count", "answer", "grader"),
    [
        ("reasoning/gsm8k/test.jsonl.gz", 1319, "18", numeric),
        ("lmeval/ai2_arc_ARC-Challenge.validation.jsonl.gz", 299, "Record the details of the investigation.", choice),
        ("lmeval/hellaswag.validation.jsonl.gz", 10042, "starts pulling up roofing on a roof.", choice),
        ("lmeval/mmlu.test.jsonl.xz", 14042, "4", choice),
        ("lmeval/openbookqa.validation.jsonl.gz", 500, "Deep sea animals", choice),
        ("lmeval/llm_foundry/piqa.jsonl.gz", 1838, None, choice),
        ("lmeval/llm_foundry/svamp.jsonl.gz", 300, "1", numeric),
        ("lmeval/nq_open.validation.jsonl.gz", 3610, "14 December 1972 UTC", exact),
        ("lmeval/trivia_qa_rc.wikipedia.nocontext.validation.jsonl.gz", 7993, "Sunset Boulevard", exact),
        ("reasoning/last_letters/last_letters.json", 500, "yajo", exact),
    ],
)  # fmt: skip
def test_real_files(shared: Path, path: str, count: int, answer: str | None, grader: object) -> None:
    task = load_task(shared / "data" / path)
    assert len(task.items) == count
    assert answer in (None, task.items[0].answer)
    assert task.grader is grader


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "a", "answer": "b"}, {"question": "a"}], r"my.jsonl:2: not a row of question and "
            r"answer"),
        ([{"text": "a"}], r"my.jsonl:1: unknown kind of row: its keys are text. Known kinds: "),
        ([["a"]], r"my.jsonl:1: a row must be an object"),
        ([{"question": "", "answer": "b"}], r"my.jsonl:1: 'question' must be a non-empty text"),
        ([{"question": "a", "answer": True}], r"my.jsonl:1: 'answer' must be"),
        ([{"question": "a", "answer": []}], r"my.jsonl:1: 'answer' must be"),
        ([{"question": "a", "answer": " "}], r"my.jsonl:1: the answer is empty"),
        ([{"query": "a", "choices": ["b", "c"], "gold": 2}], r"my.jsonl:1: 'gold' is 2; allowed: 0, 1"),
        ([{"query": "a", "choices": ["b"], "gold": 0}], r"my.jsonl:1: there is only one choice"),
        ([{"question": "a", "choices": ["b", "c"], "answer": "d"}], r"my.jsonl:1: 'answer' is 'd'; allowed: "
            r"A, B"),
        ([{"id": 1, "question": "a", "answer": "b"}] * 2, r"the id '1' occurs twice"),
        ([{"question": "a", "answer": "b", "grader": "judge"}], r"grader is .*exact, numeric, choice"),
        ([], r"my.jsonl is empty"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_are_named(tmp_path: Path, rows: list, message: str) -> None:
    with pytest.raises(CamelidError, match=message):
        load_task(write(tmp_path / "my.jsonl", *rows))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"question": "a", "answer": "b"}\n{"question"', r"a.jsonl:2: not JSON"),
        ("a.jsonl", b'{"question": "a", "answer": "b"}\n\xff', r"a.jsonl:2: byte 33 .* is not UTF-8"),
        ("a.json", b'{"rows": [], "more": []}', r"a.json:1.*: unknown kind of row: its keys are rows, more"),
        ("a.txt", b"What is it?", r"a.txt is text"),
        ("a.jsonl.gz", gzip.compress(b'{"question": "a"' * 1000, mtime=0)[:-9], r"a.jsonl.gz cannot be read"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CamelidError, match=message):
        load_task(tmp_path / name)


def test_the_world_is_there_by_name() -> None:
    task = load_task("world/coin_flip", limit=5)
    assert (task.name, len(task.items), task.grader) == ("world/coin_flip/test", 5, choice)
    assert load_task("world/coin_flip/test", limit=5) == task
    assert all(exemplar.rationale for exemplar in task.exemplars)
    assert not {item.question for item in task.items} & {exemplar.question for exemplar in task.exemplars}
    assert "world/sums" in task_names()


@pytest.mark.parametrize("name", ["world/nothing", "world/sums/later", "no/such/file.jsonl"])
def test_unknown_names_list_the_known_ones(name: str) -> None:
    with pytest.raises(WrongCall, match="world/coin_flip"):
        load_task(name)


def test_ids_are_unique() -> None:
    with pytest.raises(CamelidError, match="occurs twice"):
        Task("t", "1", (Item("1", "a", "b"), Item("1", "c", "d")), exact)
