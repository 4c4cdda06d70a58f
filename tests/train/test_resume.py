"""Killed, stopped or damaged, a run goes on to the very curve and weights of the unbroken one."""

import json
import random
import shutil
import signal
import time

import pytest

from camelid.cli import main as cli
from camelid.runs.run import list_checkpoints, read_metrics

pytestmark = pytest.mark.slow

STEPS = 120
SETTINGS = {
    "training__steps": STEPS,
    "training__checkpoint_every": 3,
    "training__validate_every": 10,
    "training__learning_rate": 0.01,
}
EXACT = ("step", "loss", "learning_rate", "grad_norm", "validation_loss", "validation_bits_per_byte")


def curve(out):
    """What must be equal of every record: all but times and memory."""
    return [
        {key: record[key] for key in EXACT if key in record} for record in read_metrics(out / "metrics.jsonl")
    ]


def weights(out):
    return (out / "model" / "model.safetensors").read_bytes()


def assert_equal_runs(one, other):
    assert curve(one) == curve(other)
    assert weights(one) == weights(other)
    assert (one / "report.html").exists() == (other / "report.html").exists()


def wait_until(happened, process, seconds=60.0):
    """Waits for `happened()`; False where the process ends first."""
    end = time.monotonic() + seconds
    while not happened():
        if process.poll() is not None:
            return False
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.0005)
    return True


def steps_logged(out):
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def words(pretrain_words):
    return lambda out: pretrain_words(out, **SETTINGS)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, command_line, words):
    out = tmp_path_factory.mktemp("unbroken") / "run"
    command_line.run(words(out))
    assert [record["step"] for record in read_metrics(out / "metrics.jsonl")] == list(range(STEPS + 1))
    return out


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, command_line, words):
    """A run stopped by one Ctrl-C in its middle."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    process = command_line.start(words(out))
    assert wait_until(lambda: steps_logged(out) > 20, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "its state is saved" in errors
    assert "Traceback" not in errors
    return out


def test_killed_again_and_again_also_while_a_checkpoint_is_written(tmp_path, command_line, words, unbroken):
    out, chance = tmp_path / "run", random.Random(0)
    drafts = out / "checkpoints"
    moments = {
        "before the first step": lambda done: (out / "run.json").exists(),
        "between steps": lambda done: steps_logged(out) > done + 10 + chance.randrange(5),
        "while a checkpoint is written": lambda done: (
            steps_logged(out) > done + 10 and any(drafts.glob(".*.partial/weights.safetensors"))
        ),
    }
    broken_drafts = kills = 0
    for happened in [*moments.values(), moments["between steps"]]:
        done = list_checkpoints(out)[-1].step if list_checkpoints(out) else 0
        process = command_line.start(words(out))
        if wait_until(lambda: happened(done), process):  # noqa: B023 -- called at once
            process.kill()
            kills += 1
        process.communicate(timeout=60)
        broken_drafts += any(drafts.glob(".*.partial"))
    assert kills >= 3
    assert broken_drafts >= 1
    command_line.run(words(out))
    assert_equal_runs(out, unbroken)
    assert list(out.rglob(".*.partial")) == []


def test_killed_before_the_first_checkpoint_no_step_stands_twice(tmp_path, command_line, words, unbroken):
    out = tmp_path / "run"
    shutil.copytree(unbroken, out)
    for made in ("model", "checkpoints"):
        shutil.rmtree(out / made)
    lines = (unbroken / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(lines[:3]))
    command_line.run(words(out))
    assert_equal_runs(out, unbroken)


def test_stopped_by_ctrl_c_it_goes_on_to_the_same_curve(tmp_path, command_line, words, unbroken, stopped):
    out = tmp_path / "run"
    shutil.copytree(stopped, out)
    assert steps_logged(out) - 1 == list_checkpoints(out)[-1].step < STEPS
    command_line.run(words(out))
    assert_equal_runs(out, unbroken)


def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_used(
    tmp_path, command_line, words, unbroken, stopped
):
    out = tmp_path / "run"
    shutil.copytree(stopped, out)
    newest = list_checkpoints(out)[-1].folder
    content = bytearray((newest / "optimizer.safetensors").read_bytes())
    content[-100] ^= 1
    (newest / "optimizer.safetensors").write_bytes(content)
    said = command_line.run(words(out))
    assert f"checkpoint {newest.name} is damaged (optimizer.safetensors differs from its digest)" in said
    assert "using the one before" in said
    assert_equal_runs(out, unbroken)


def test_another_recipe_or_other_data_is_refused(pretrain_words, words, text, stopped, capsys):
    before = {path: path.stat().st_mtime_ns for path in stopped.rglob("*") if path.name != "run.lock"}
    changed = SETTINGS | {"training__learning_rate": 0.02}
    assert cli.main(pretrain_words(stopped, **changed)) == 2
    assert "recipe.training.learning_rate: 0.01 there, 0.02 now" in capsys.readouterr().err
    content = text.read_text()
    text.write_text(content + "One more line.\n")
    try:
        assert cli.main(words(stopped)) == 2
    finally:
        text.write_text(content)
    shown = capsys.readouterr().err
    assert f"data.{text}" in shown
    assert "give another folder with --out" in shown.lower()
    assert before == {path: path.stat().st_mtime_ns for path in stopped.rglob("*") if path.name != "run.lock"}


def test_a_finished_run_changes_nothing(words, unbroken):
    before = {
        path: path.read_bytes() for path in unbroken.rglob("*") if path.is_file() and path.name != "run.lock"
    }
    assert cli.main(words(unbroken)) == 0
    assert before == {
        path: path.read_bytes() for path in unbroken.rglob("*") if path.is_file() and path.name != "run.lock"
    }


def test_killed_before_the_report_it_is_written(tmp_path, words, unbroken):
    out = tmp_path / "run"
    shutil.copytree(unbroken, out)
    (out / "report.html").unlink()
    assert cli.main(words(out)) == 0
    assert (out / "report.html").exists()
    assert json.loads((out / "run.json").read_text()) == json.loads((unbroken / "run.json").read_text())
