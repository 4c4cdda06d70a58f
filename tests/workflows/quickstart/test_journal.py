"""The journal keeps what was decided and spent, and knows its own command again."""

import json
from types import SimpleNamespace

import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import train_tokenizer
from camelid.workflows.quickstart import journal
from camelid.workflows.quickstart.journal import Journal
from camelid.workflows.quickstart.steps import make_assistant

ARGUMENTS = {"minutes": 1.0, "text": [], "chats": [], "from": None, "seed": 0}


def test_a_decision_is_taken_once(tmp_path):
    asked = []

    def decide():
        asked.append(1)
        return {"steps": 20, "shape": {"num_layers": 2}}

    first = Journal(tmp_path / "out", ARGUMENTS).decide("pretrain", decide)
    again = Journal(tmp_path / "out", ARGUMENTS).decide("pretrain", decide)
    assert first == again == {"steps": 20, "shape": {"num_layers": 2}}
    assert asked == [1]


def test_the_seconds_of_a_step_add_up_also_where_it_is_cut_short(tmp_path, monkeypatch):
    now = iter([100.0, 105.0, 200.0, 202.5])
    monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=lambda: next(now)))
    with Journal(tmp_path, ARGUMENTS).timed("tune"):
        pass
    with pytest.raises(KeyboardInterrupt), Journal(tmp_path, ARGUMENTS).timed("tune"):
        raise KeyboardInterrupt
    assert json.loads((tmp_path / "quickstart.json").read_text())["seconds"] == {"tune": 7.5}
    assert Journal(tmp_path, ARGUMENTS).seconds == {"tune": 7.5}


def test_the_time_of_a_step_is_kept_while_it_runs(tmp_path, monkeypatch):
    """After kill -9, what was worked until the last writing counts."""
    now = iter([100.0, 130.0, 145.0])
    monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=lambda: next(now)))
    kept = Journal(tmp_path, ARGUMENTS)
    kept.keep_time()  # no step runs
    with kept.timed("tune"):
        kept.keep_time()
        assert Journal(tmp_path, ARGUMENTS).seconds == {"tune": 30.0}
    assert Journal(tmp_path, ARGUMENTS).seconds == {"tune": 45.0}


def test_other_arguments_begin_anew_where_nothing_has_been_made(tmp_path):
    first = Journal(tmp_path, ARGUMENTS)
    first.decide("tune", lambda: {"steps": 20})
    with pytest.raises(CamelidError), first.timed("tune"):
        raise CamelidError("chats.jsonl: too few conversations")
    again = Journal(tmp_path, ARGUMENTS | {"seed": 1})
    assert (again.decisions, again.seconds) == ({}, {})
    assert json.loads((tmp_path / "quickstart.json").read_text())["arguments"]["seed"] == 1


def test_other_arguments_are_refused_and_named(tmp_path):
    Journal(tmp_path, ARGUMENTS)
    (tmp_path / "data").mkdir()
    before = (tmp_path / "quickstart.json").read_bytes()
    with pytest.raises(WrongCall, match=r"other arguments \(minutes was 1\.0, seed was 0\)"):
        Journal(tmp_path, ARGUMENTS | {"minutes": 2.0, "seed": 1})
    assert (tmp_path / "quickstart.json").read_bytes() == before


def test_a_folder_of_something_else_is_refused_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(WrongCall, match="not empty and not a quickstart"):
        Journal(tmp_path, ARGUMENTS)
    with pytest.raises(WrongCall, match="not empty and not a quickstart"):
        Journal(tmp_path / "thesis.tex", ARGUMENTS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["{", "[]", '{"arguments": {}}'])
def test_a_broken_journal_is_named(tmp_path, content):
    (tmp_path / "quickstart.json").write_text(content)
    with pytest.raises(CamelidError, match=r"quickstart\.json"):
        Journal(tmp_path, ARGUMENTS)


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"", "is empty"), (bytes(range(256)), "binary|UTF-8"), (b"caf\xe9 au lait\n", "UTF-8")],
)
def test_text_that_cannot_be_read_is_refused_before_anything_is_made(content, part, tmp_path):
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(CamelidError, match=part):
        make_assistant(minutes=1.0, out=tmp_path / "out", text=(tmp_path / "text.txt",))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("minutes", [0.1, float("nan"), float("inf"), 1e308])
def test_a_time_that_is_too_short_or_without_end_is_refused_before_anything_is_made(minutes, tmp_path):
    with pytest.raises(WrongCall, match="--minutes is"):
        make_assistant(minutes=minutes, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_tuned_is_refused_before_anything_is_made(tmp_path):
    chats, base = tmp_path / "chats.jsonl", tmp_path / "base"
    chats.write_text(json.dumps({"instruction": "Who?", "output": "Me."}) + "\n")
    with pytest.raises(CamelidError, match="there is no folder"):
        make_assistant(out=tmp_path / "out", chats=(chats,), base=str(base))
    tokenizer = train_tokenizer(["Who? Me."], 300)
    tokenizer.chat_template = None
    base.mkdir()
    tokenizer.save(base)
    spec = ModelSpec.llama(
        vocab_size=tokenizer.vocab_size, hidden_size=8, num_layers=1, num_heads=1, context_length=16
    )
    save_checkpoint(base, Transformer(spec).initialize(0))
    with pytest.raises(CamelidError, match=r"no chat template.*chat_template\.jinja"):
        make_assistant(out=tmp_path / "out", chats=(chats,), base=str(base))
    assert not (tmp_path / "out").exists()
