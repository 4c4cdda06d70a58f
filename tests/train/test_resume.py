"""Killed, stopped or damaged, a run goes on to the very curve and weights of the unbroken one."""

import json
import os
import pty
import select
import shutil
import signal
import sys
import time

import pytest

from camelid.cli import main as cli
from camelid.runs.run import Run, list_checkpoints, read_metrics
from camelid.train import saving

pytestmark = pytest.mark.slow

STEPS = 60
SETTINGS = {
    "model__dropout": 0.1,
    "training__steps": STEPS,
    "training__checkpoint_every": 3,
    "training__validate_every": 10,
    "training__learning_rate": 0.01,
}
LONG = {"training__steps": 5000}
"""More than are made until a signal comes, on a machine that does other things too."""
EXACT = ("step", "loss", "learning_rate", "grad_norm", "validation_loss", "validation_bits_per_byte")


def end_at(words, number, moment, step):
    """The command line, which sends itself a signal at a moment, so that no clock has a say."""
    log, save_state = Run.log, saving.save_state

    def reach(*now):
        if now == (moment, step):
            os.kill(os.getpid(), number)

    def logging(run, record):
        reach("before the record", record["step"])
        log(run, record)
        reach("after the record", record["step"])

    def save(folder, state, group):
        (folder / "weights.safetensors").write_bytes(b"half of it")
        reach("inside the checkpoint", state.step)
        save_state(folder, state, group)

    Run.log, saving.save_state = logging, save
    sys.exit(cli.main(words))


def ignore_hangups(words):
    """The command line as nohup starts it as a script's background job."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(cli.main(words))


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


def steps_logged(out):
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def words(pretrain_words):
    return lambda out: pretrain_words(out, **SETTINGS)


@pytest.fixture(scope="module")
def ended(command_line, words):
    """Runs the words of a folder until the given moment, at which a signal is sent; the process's code and
    its errors."""

    def run(out, number, moment, step):
        process = command_line.fork(end_at, words(out), number, moment, step)
        _, errors = process.communicate(timeout=300)
        return process.returncode, errors

    return run


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, command_line, words):
    out = tmp_path_factory.mktemp("unbroken") / "run"
    command_line.launch(words(out))
    assert [record["step"] for record in read_metrics(out / "metrics.jsonl")] == list(range(STEPS + 1))
    return out


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, ended):
    """A run stopped by one Ctrl-C in its middle."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    code, errors = ended(out, signal.SIGINT, "after the record", 22)
    assert code == 130, errors
    assert "the state is saved" in errors
    assert "Traceback" not in errors
    assert steps_logged(out) - 1 == list_checkpoints(out)[-1].step == 22
    return out


def test_killed_again_and_again_also_while_a_checkpoint_is_written(
    tmp_path, command_line, words, ended, unbroken
):
    out = tmp_path / "run"
    moments = [
        ("before the record", 0),
        ("after the record", 14),
        ("inside the checkpoint", 30),
        ("after the record", 48),
    ]
    for moment, step in moments:
        code, errors = ended(out, signal.SIGKILL, moment, step)
        assert code == -signal.SIGKILL, errors
        drafts = list((out / "checkpoints").glob(".*.partial"))
        assert len(drafts) == 1 or moment != "inside the checkpoint"  # a state may be on its way to disk
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
    command_line.run(words(out))
    assert_equal_runs(out, unbroken)


def test_settings_that_change_no_result_may_differ_when_resuming(
    tmp_path, command_line, pretrain_words, unbroken, stopped
):
    """Validations come at other steps; all else of the curve, and the weights, are those of the unbroken
    run."""
    out = tmp_path / "run"
    shutil.copytree(stopped, out)
    shutil.rmtree(out / "tokens")
    changed = {
        "data__workers": 2,
        "training__checkpoint_every": 50,
        "training__keep_checkpoints": 1,
        "training__validate_every": 40,
    }
    command_line.run(pretrain_words(out, **SETTINGS | changed))
    assert weights(out) == weights(unbroken)
    ours, theirs = (
        [{key: record[key] for key in EXACT[:4] if key in record} for record in curve(run)]
        for run in (out, unbroken)
    )
    assert ours == theirs
    validated = [record["step"] for record in curve(out) if "validation_loss" in record]
    assert validated == [0, 10, 20, 40, 60]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_stopped_from_outside_the_state_is_saved(tmp_path, number, command_line, words, ended, unbroken):
    out = tmp_path / "run"
    code, errors = ended(out, number, "before the record", 22)
    assert (code, steps_logged(out) - 1, list_checkpoints(out)[-1].step) == (130, 22, 22), errors
    command_line.run(words(out))
    assert_equal_runs(out, unbroken)


def test_under_nohup_it_outlives_the_terminal_and_still_stops_between_two_steps(
    tmp_path, command_line, pretrain_words
):
    """Of a script's background jobs SIGINT is ignored, under nohup SIGHUP, and both stay so."""
    out = tmp_path / "run"
    process = command_line.fork(ignore_hangups, pretrain_words(out, **SETTINGS | LONG))
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        before = steps_logged(out)
        while process.poll() is None and steps_logged(out) < before + 3:
            time.sleep(0.01)
        process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "the state is saved" in errors
    step = list_checkpoints(out)[-1].step
    assert 9 <= steps_logged(out) - 1 == step < LONG["training__steps"]


def close_terminal(words, out):
    """The command line on a terminal, which closes after ten steps."""
    process, screen = pty.fork()
    if process == 0:
        os._exit(cli.main(words))
    while steps_logged(out) < 10:
        if select.select([screen], [], [], 0.05)[0]:
            os.read(screen, 4096)
    os.close(screen)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))


def test_where_the_terminal_closes_the_state_is_saved(tmp_path, command_line, pretrain_words):
    out = tmp_path / "run"
    process = command_line.fork(close_terminal, pretrain_words(out, **SETTINGS | LONG), out)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert steps_logged(out) - 1 == list_checkpoints(out)[-1].step < LONG["training__steps"]


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
