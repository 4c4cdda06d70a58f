"""`camelid make clean` keeps the threads that FastChat's own scripts keep (fschat 0.2.36, if installed)."""

import copy
import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from camelid.makers.clean import Cleaner, Preparation
from camelid.makers.pieces import Pieces
from camelid.makers.seen import Seen
from camelid.recipes.clean import CleanRecipe
from camelid.text.tokenizer import Tokenizer, train_tokenizer

clean_sharegpt = pytest.importorskip("fastchat.data.clean_sharegpt")
filter_wrong_format = pytest.importorskip("fastchat.data.filter_wrong_format")
split_long_conversation = pytest.importorskip("fastchat.data.split_long_conversation")


class Here:
    """An executor that works in this process."""

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None: ...

    map = staticmethod(map)


def thread(name: str, *texts: str) -> dict[str, Any]:
    sides = ("human", "gpt")
    turns = [{"from": sides[at % 2], "value": text} for at, text in enumerate(texts)]
    return {"id": name, "conversations": turns}


def pairs(name: str, *sizes: int) -> dict[str, Any]:
    texts = [text for size in sizes for text in (f"question of {name}", f"<p>{'word ' * size}</p>")]
    return thread(name, *texts)


DUMP = [
    pairs("plain", 3),
    pairs("long", 20, 20, 20, 20, 20),
    pairs("last pair overflows", 20, 20, 30),
    thread("early", "x", "y", "z")
    | {"conversations": thread("", "", "An early answer", "Ask", "<p>An answer</p>")["conversations"][1:]},
    pairs("no answer", 5)
    | {"conversations": [*pairs("a", 5)["conversations"], {"from": "human", "value": "?"}]},
    thread("twice", "one question", "one answer", "next", "more")
    | {"conversations": [{"from": "human", "value": "again"}, *pairs("b", 5)["conversations"]]},
    thread("blocked", "Who are you? Say it.", "I am ChatGPT."),
    thread("empty", "Say nothing at all, please.", "<div></div>"),
    thread("cut", "a first question", "<p>a first answer</p>", "a second", "<div> </div>"),
    thread("short", "a", "b"),
    thread("single", "a question only"),
    pairs("plain", 4),
    thread("copy", "question of plain", f"<p>{'word ' * 3}</p>", "other", "end"),
    pairs("web", 4) | {"plugins": ["web"]},
    thread("lists", "Give me a list of it.", "<p>x</p>\n1. one\n1. again"),
]


def test_the_same_threads_and_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tokenizer: Tokenizer = train_tokenizer(["question of word answer"] * 3, 300)
    context = 80
    for module in (clean_sharegpt, split_long_conversation):
        monkeypatch.setattr(module, "ProcessPoolExecutor", Here)
        monkeypatch.setattr(module, "tqdm", lambda values, **_: values)

    class Encoded:
        def __init__(self, text: str):
            self.input_ids = tokenizer.encode(text)

    with redirect_stdout(io.StringIO()):
        kept = clean_sharegpt.clean_html_all(copy.deepcopy(DUMP), 0, None)
    kept = [row for row in kept if not filter_wrong_format.should_skip(row)]
    split = split_long_conversation.split_all(kept, 0, None, Encoded, context)
    theirs = {row["id"] for row in split_long_conversation.filter_invalid_roles(split)}
    prepare = Preparation(
        CleanRecipe(files=("a",), out="b", refusals=False), Pieces.of(tokenizer, context, 6)
    )
    with Seen(tmp_path / "seen") as seen:
        rows = Cleaner(seen).rows(((prepare(row), "") for row in DUMP), lambda *_: None)
        ours = {row["made"]["id"] for row in rows}
    assert {name.rpartition("_")[0] for name in ours} == {row["id"] for row in kept}
    assert theirs <= ours
    assert {name.rpartition("_")[0] for name in ours - theirs} <= {"long", "last pair overflows"}
