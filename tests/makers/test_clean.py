"""`camelid make clean`: every way in which a shared thread is malformed, each step, splitting, and kills."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from camelid.cli import main as cli
from camelid.data.read.conversations import Conversations
from camelid.makers.clean import Cleaner, Preparation
from camelid.makers.pieces import Pieces
from camelid.makers.seen import Seen
from camelid.makers.threads import DroppedError, thread_of
from camelid.recipes.clean import CleanRecipe
from camelid.text.chat_template import encode_conversation
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import Tokenizer, train_tokenizer

ASK, ANSWER = "How many legs has a spider?", "<p>A spider has <strong>eight</strong> legs.</p>"
Turns = list[dict[str, Any]]
Cleaned = tuple[list[dict[str, Any]], list[tuple[str, str]], Cleaner]


def turns(*texts: Any) -> Turns:
    return [{"from": ("human", "gpt")[at % 2], "value": text} for at, text in enumerate(texts)]


@pytest.fixture
def clean(tmp_path: Path) -> Callable[..., Cleaned]:
    def run(rows: Sequence[Any], pieces: Pieces | None = None, **settings: Any) -> Cleaned:
        dropped = list[tuple[str, str]]()
        with Seen(tmp_path / "seen") as seen:
            prepare, cleaner = (
                Preparation(CleanRecipe(files=("a",), out="b", **settings), pieces),
                Cleaner(seen),
            )
            placed = ((prepare(row), str(number)) for number, row in enumerate(rows))
            kept = [*cleaner.rows(placed, lambda step, reason, where: dropped.append((step, reason)))]
        assert not (tmp_path / "seen").exists()
        return kept, dropped, cleaner

    return run


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "no list of turns"),
        ({"conversations": None}, "no list of turns"),
        ({"conversations": "text"}, "no list of turns"),
        ({"conversations": []}, "no question with an answer"),
        ({"conversations": turns(ASK)}, "no question with an answer"),
        ({"conversations": [ASK, ANSWER]}, "a turn that is not an object"),
        ({"conversations": [{"value": ASK}, {"from": "gpt", "value": ANSWER}]}, "a turn without a role"),
        ({"conversations": [{"from": None, "value": ASK}, *turns(ASK, ANSWER)]}, "a turn without a role"),
        ({"conversations": [{"from": "alien", "value": ASK}]}, "a turn of an unknown role"),
        ({"conversations": [{"from": 3, "value": ASK}]}, "a turn of an unknown role"),
        ({"conversations": turns(ASK, 3)}, "a turn whose text is not a string"),
        ({"conversations": [*turns(ASK), *turns(ASK, ANSWER)]}, "two turns of the user in a row"),
        (
            {"conversations": [*turns(ASK, ANSWER), turns(ASK, ANSWER)[1]]},
            "two turns of the assistant in a row",
        ),
        (
            {"conversations": [*turns(ASK, ANSWER), {"from": "system", "value": "x"}]},
            "a system message in the middle",
        ),
    ],
)
def test_threads_that_cannot_be_read(row: dict[str, Any], reason: str):
    with pytest.raises(DroppedError, match=reason):
        thread_of(row)


def test_threads_of_other_keys_and_names():
    messages = [{"role": "User ", "content": ASK, "x": 1}, {"role": "assistant", "content": ANSWER}]
    for row in ({"messages": messages}, {"items": turns(ASK, ANSWER)}, {"conversation": messages, "id": 7}):
        thread, mended = thread_of(row)
        assert [(turn.role, turn.text) for turn in thread.turns] == [("user", ASK), ("assistant", ANSWER)]
        assert mended == []
    assert thread.id == "7"
    first = {"from": "system", "value": "Be kind."}
    assert thread_of({"conversations": [first, *turns(ASK, ANSWER)]})[0].system == "Be kind."


def test_ends_are_mended_and_counted(clean: Callable[..., Cleaned]):
    early = {"from": "gpt", "value": "Hello there"}
    kept, _, cleaner = clean([{"conversations": [early, *turns(ASK, ANSWER, "And a fly?")]}])
    assert [one["content"] for one in kept[0]["messages"]] == [ASK, "A spider has **eight** legs."]
    assert sum(cleaner.counts.mended.values()) == 2


@pytest.mark.parametrize(
    ("texts", "step", "reason"),
    [
        ((ASK, "<div></div>"), "convert", "an empty turn"),
        ((ASK, None), "convert", "an empty turn"),
        ((ASK, "\x07bell"), "convert", "an empty turn"),
        ((ASK, "Too many requests in 1 hour. Try again later."), "convert", "a message of the page"),
        ((ASK, "<p>I'm sorry, but I cannot help with that.</p>"), "convert", "a refusal"),
        ((ASK, "<p>As an AI language model, I have no legs.</p>"), "convert", "a refusal"),
        ((ASK, "I am ChatGPT."), "convert", "the word chatgpt"),
        (("Hi", "Hello."), "convert", "fewer than 16 characters"),
        (
            (ASK, "The legs of a spider are:\n1. the one\n1. the other\n1. that is it"),
            "lists",
            "a list that begins again",
        ),
        (("Wie viele Beine hat die Spinne?", "Die Spinne hat acht Beine."), "languages", "language de"),
        (
            (ASK, "0000000000 is the number of the legs that it has"),
            "languages",
            "nine equal digits in a row",
        ),
    ],
)
def test_each_reason(clean: Callable[..., Cleaned], texts: tuple[Any, ...], step: str, reason: str):
    before = {"conversations": turns("What is the colour of the sky?", "<p>It is the colour blue.</p>")}
    row = {"conversations": turns(*texts)}
    kept, dropped, cleaner = clean([before, row], languages=("en",), repeated_digits=True)
    assert (len(kept), dropped) == (1, [(step, reason)])
    table = {one["step"]: one for one in cleaner.counts.steps()}
    assert table[step]["dropped"] == {reason: 1}
    assert table["split"]["threads"] == 1


def test_a_thread_is_cut_before_what_is_unwanted(clean: Callable[..., Cleaned]):
    row = {"conversations": turns(ASK, ANSWER, "And a fly?", "I am sorry, I can't answer.", "Why?", "Hm.")}
    kept, _, cleaner = clean([row])
    assert [len(one["messages"]) for one in kept] == [2]
    assert cleaner.counts.mended == {"cut before a refusal": 1}
    kept, _, _ = clean([row], refusals=False, blocked=())
    assert [len(one["messages"]) for one in kept] == [6]


def test_duplicates(clean: Callable[..., Cleaned]):
    one = {"id": "a", "conversations": turns(ASK, ANSWER)}
    rows = [
        one,
        {"id": "a", "conversations": turns(ASK + " Now?", ANSWER)},
        {"id": "b", "conversations": turns(ASK, ANSWER, "And more?", "No.")},
        {"id": "c", "plugins": [], "conversations": turns("Other question here", ANSWER)},
        {"id": "c", "conversations": turns("Other question here", ANSWER)},
        {"conversations": turns("No id at all, first", ANSWER)},
        {"conversations": turns("No id at all, second", ANSWER)},
    ]
    kept, dropped, _ = clean(rows)
    assert [row["made"]["from"] for row in kept] == ["0", "4", "5", "6"]
    assert [reason for _, reason in dropped] == [
        "the id of an earlier thread",
        "question and answer of an earlier thread",
        "plugins",
    ]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["user assistant system how many legs has a spider eight"] * 3, 320)


@pytest.mark.parametrize("context", [56, 64, 100, 1000])
@pytest.mark.parametrize("system", ["", "Be kind."])
def test_pieces_fit_and_are_as_long_as_possible(
    clean: Callable[..., Cleaned], tokenizer: Tokenizer, context: int, system: str
):
    texts = [word * (1 + at % 5) for at, word in enumerate(["legs ", "spider ", "eight ", "\n\nmany "] * 6)]
    head = [{"from": "system", "value": system}] if system else []
    kept, _, cleaner = clean(
        [{"id": "x", "conversations": head + turns(*texts)}], Pieces.of(tokenizer, context)
    )
    assert cleaner.counts.mended.get("a question and answer longer than the context left out", 0) == 0

    def tokens(messages: Turns) -> int:
        return len(encode_conversation(tokenizer, Conversation.from_messages(messages))[0]) - 1

    heads = len(head)
    joined = [message["content"] for row in kept for message in row["messages"][heads:]]
    assert joined == [text.strip() for text in texts]
    for row, after in zip(kept, [*kept[1:], None], strict=True):
        assert tokens(row["messages"]) <= context
        if after is not None:
            assert tokens(row["messages"] + after["messages"][heads : heads + 2]) > context


def test_pairs_that_fit_nowhere_are_left_out(clean: Callable[..., Cleaned], tokenizer: Tokenizer):
    long = "spider " * 60
    rows = [{"id": "a", "conversations": turns(ASK, "eight legs", ASK, long, ASK, "again eight")}]
    kept, _, cleaner = clean(rows, Pieces.of(tokenizer, 60))
    assert [row["made"]["id"] for row in kept] == ["a_0", "a_4"]
    assert cleaner.counts.mended["a question and answer longer than the context left out"] == 1
    _, dropped, _ = clean([{"conversations": turns(ASK, long)}], Pieces.of(tokenizer, 60))
    assert dropped == [("split", "no question and answer fit into the context")]


def dump(path: Path, count: int) -> str:
    rows = [{"id": str(at), "conversations": turns(f"{ASK} {at}", ANSWER)} for at in range(count)]
    path.write_text(json.dumps(rows))
    return str(path)


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    (tmp_path / "more.jsonl").write_text(
        '{"conversations": [}\n[1]\n' + json.dumps({"conversations": 1}) + "\n"
    )
    assert (
        cli.main(
            ["make", "clean", dump(tmp_path / "raw.json", 5), str(tmp_path / "more.jsonl"), "--out", str(out)]
        )
        == 0
    )
    assert "5 rows of 5 threads kept, 3 dropped" in capsys.readouterr().out
    card = json.loads((out / "card.json").read_text())
    assert card["counts"] == {"threads": 8, "kept": 5, "rows": 5, "dropped": 3}
    assert card["steps"][0]["dropped"] == {"a malformed row": 2, "no list of turns": 1}
    places = [json.loads(line)["where"] for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert [place.split("more.jsonl:")[1][0] for place in places] == ["1", "2", "3"]
    assert len(list(Conversations(out))) == 5
    assert "no list of turns" in (out / "report.html").read_text()
    assert cli.main(["make", "clean", str(tmp_path / "more.jsonl"), "--out", str(tmp_path / "none")]) == 1
    assert "no thread could be kept: a malformed row 2, no list of turns 1" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_workers_change_nothing(tmp_path: Path):
    raw = dump(tmp_path / "raw.json", 200)
    for workers in ("1", "2"):
        assert cli.main(["make", "clean", raw, "--out", str(tmp_path / workers), "--workers", workers]) == 0
    for name in ("rows.jsonl", "dropped.jsonl"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_a_killed_job_leaves_nothing_and_runs_again(tmp_path: Path):
    words = ["make", "clean", dump(tmp_path / "raw.json", 20_000), "--out", str(tmp_path / "out")]
    process = subprocess.Popen([sys.executable, "-m", "camelid", *words], stdout=subprocess.DEVNULL)
    ends = time.monotonic() + 240
    while not list(tmp_path.glob(".out.*.partial/rows.jsonl")) and time.monotonic() < ends:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (tmp_path / "out").exists()
    (tmp_path / "raw.json").write_text(json.dumps(json.loads((tmp_path / "raw.json").read_text())[:50]))
    assert cli.main(words) == 0
    assert len((tmp_path / "out" / "rows.jsonl").read_text().splitlines()) == 50
    assert {path.name for path in tmp_path.iterdir()} == {"raw.json", "out"}
