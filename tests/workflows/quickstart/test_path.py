"""The whole path in one verb: it ends in a report and a model that answers, goes on after Ctrl-C, and does
nothing twice."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch

from camelid.base.progress import in_bytes
from camelid.cli import main as cli
from camelid.engine.engine import Engine
from camelid.formats.hugging_face.checkpoint import read_config
from camelid.formats.load import stored_dtype
from camelid.lm.sampling import Sampling
from camelid.runs.run import Run, read_metrics
from camelid.text.conversation import Conversation, Message
from camelid.workflows.quickstart import evaluation, recipes, sizing, world_files

pytestmark = pytest.mark.slow

SECTIONS = ("Loss on held-out conversations", "Conversations", "Training: pretrain", "Training: tune")


@pytest.fixture(scope="module", autouse=True)
def small():
    """Less of everything that the dial does not turn: rows, questions, stories, held-out text."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (sizing, recipes, world_files):
            patch.setattr(module, "CONTEXT", 128)
            patch.setattr(module, "BATCH_ROWS", 4)
        patch.setattr(world_files, "VALIDATION_BYTES", 10_000)
        patch.setattr(world_files, "VALIDATION_CHATS", 20)
        patch.setattr(world_files, "TASKS", ("coin_flip", "facts"))
        patch.setattr(evaluation, "LONGEST_REPLY", 8)
        patch.setattr(evaluation, "STORIES", 2)
        patch.setattr(evaluation, "TALKS", 1)
        yield
    torch.set_num_threads(os.cpu_count() or 1)


def quickstart(*words):
    return cli.main(["quickstart", "--minutes", "0.5", *map(str, words)])


def contents(out):
    """Every file that a call may not change: all but clocks and locks."""
    return {
        path.relative_to(out): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name != "run.lock"
    }


def answers(folder, question):
    """Whether a model that has hardly learnt to speak says something; one that is sure of its end may say
    nothing."""
    engine = Engine.load(folder, dtype=torch.bfloat16)
    asked = Conversation((Message("user", question),))
    [replies] = engine.generate([asked], Sampling(max_new_tokens=20, temperature=1.0), samples=8)
    return any(reply.text.strip() for reply in replies)


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    out = tmp_path_factory.mktemp("default") / "out"
    assert quickstart("--out", out) == 0
    return out


def test_the_default_path_ends_in_a_report_and_a_model_that_answers(default):
    out = default
    page = (out / "report.html").read_text()
    for title in (*SECTIONS, "Stories"):
        assert title in page, title
    assert f"camelid chat {out / 'model-4bit'}" in page
    assert stored_dtype(read_config(out / "tune" / "model")) == torch.float32
    for name, folder in (("float32", out / "tune" / "model"), ("4-bit", out / "model-4bit")):
        size = in_bytes((folder / "model.safetensors").stat().st_size)
        assert re.search(rf"{name} folder\W.*?{size}", page, re.DOTALL), size
    for folder in (out / "tune" / "model", out / "model-4bit"):
        assert answers(folder, "Please tell me a story.")
    for stage in ("pretrain", "tune"):
        rows = read_metrics(out / stage / "metrics.jsonl")
        losses = [row["validation_loss"] for row in rows if "validation_loss" in row]
        assert losses[-1] < losses[0]


def test_the_same_command_again_changes_nothing(default, capsys):
    out = default
    before = contents(out)
    capsys.readouterr()
    assert quickstart("--out", out) == 0
    shown = capsys.readouterr()
    assert shown.err.count("already done") == 6
    assert "Done" in shown.out
    assert f"In float32:   camelid chat {out / 'tune' / 'model'}\n" in shown.out
    assert contents(out) == before


def test_every_part_can_be_checked(default, capsys):
    capsys.readouterr()
    assert cli.main(["check", str(default)]) == 0
    shown = capsys.readouterr().out
    assert "quickstart: data, tokenizer, pretrain, tune, model-4bit" in shown
    for part in ("data/text.jsonl: data", "data/tasks/facts.jsonl: data", "tokenizer: tokenizer"):
        assert part in shown, part
    for part in ("pretrain: metrics", "tune: chat template", "model-4bit: weights"):
        assert part in shown, part


def test_other_arguments_are_refused(default, capsys):
    out = default
    before = contents(out)
    assert quickstart("--out", out, "--seed", 5) == 2
    assert "other arguments (seed was 0)" in capsys.readouterr().err
    assert contents(out) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "0.1"], "must be a finite number of at least 0.5"),
        (["--from", "model"], "--from needs --chats FILE"),
        (["--from", "model", "--text", "t.txt", "--chats", "c.jsonl"], "--text would not be used"),
        (["--text", "gone.txt"], "gone.txt: no such file or folder"),
    ],
)
def test_wrong_calls_leave_nothing(tmp_path, capsys, words, message):
    assert quickstart("--out", tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> tuple[Path, Path]:
    """Text and conversations of one's own, one of them malformed and one longer than the context."""
    folder = tmp_path_factory.mktemp("own")
    names = ("Mara", "Olek", "Pia", "Sven")
    text, chats = folder / "text.txt", folder / "chats.jsonl"
    text.write_text(
        "<|endoftext|>\n".join(
            f"Day {day}: {names[day % 4]} fed the {day % 7} ducks.\n" for day in range(300)
        )
    )
    rows = [
        {"instruction": f"Who fed ducks on day {day}?", "input": "", "output": names[day % 4]}
        for day in range(300)
    ]
    odd = [{"instruction": "Nothing is answered."}, rows[0] | {"output": "A long reply. " * 100}]
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows + odd))
    return text, chats


@pytest.fixture(scope="module")
def from_own(tmp_path_factory, own):
    """A path over one's own files, interrupted while it pretrains, and gone on with on one CPU more."""
    out, (text, chats) = tmp_path_factory.mktemp("from-own") / "out", own
    log = Run.log

    def log_and_interrupt(run, record):
        log(run, record)
        if run.folder.name == "pretrain" and record["step"] == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "log", log_and_interrupt)
        assert quickstart("--out", out, "--text", text, "--chats", chats) == 130
    stopped = contents(out)
    assert not (out / "report.html").exists()
    more = (os.cpu_count() or 1) + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: more)
        assert quickstart("--out", out, "--text", text, "--chats", chats) == 0
    return out, stopped


def test_after_ctrl_c_the_same_command_goes_on(from_own):
    out, stopped = from_own
    assert Path("pretrain/model/config.json") not in stopped
    tokenizer = {path: kept for path, kept in stopped.items() if path.parts[0] == "tokenizer"}
    assert tokenizer
    assert tokenizer.items() <= contents(out).items()
    kept = contents(out)[Path("pretrain/metrics.jsonl")]
    assert kept.startswith(stopped[Path("pretrain/metrics.jsonl")])
    steps = [row["step"] for row in read_metrics(out / "pretrain" / "metrics.jsonl")]
    assert steps == list(range(len(steps)))


def test_own_text_and_chats_take_the_place_of_the_world(from_own):
    out, _ = from_own
    assert not (out / "data").exists()
    page = (out / "report.html").read_text()
    for title in SECTIONS:
        assert title in page, title
    assert "Stories" not in page
    assert answers(out / "model-4bit", "Who fed ducks on day 3?")


def test_a_finished_model_is_tuned_further(tmp_path, from_own, own):
    base = from_own[0] / "tune" / "model"
    out = tmp_path / "out"
    assert quickstart("--out", out, "--from", base, "--chats", own[1]) == 0
    assert not (out / "pretrain").exists()
    assert "Training: tune" in (out / "report.html").read_text()
    parents = json.loads((out / "tune" / "run.json").read_text())["parents"]
    assert [parent["name"] for parent in parents] == [str(base)]
    assert answers(out / "tune" / "model", "Who fed ducks on day 3?")
