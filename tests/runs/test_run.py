"""Run folders: killed at any byte they go on with the same curve, and they never mix two runs."""

import json
import random
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

from camelid.base.digest import digest_path, digest_paths
from camelid.base.errors import CamelidError, WrongCall
from camelid.recipes.recipe import load_recipe
from camelid.recipes.tune import TuneRecipe
from camelid.runs.provenance import Parent
from camelid.runs.run import Run, cut_metrics, find_damage, latest_checkpoint, list_checkpoints, read_metrics


def recipe_of(out, **changes):
    settings = {"out": str(out), "model": "m", "data.train": "rows.jsonl", "training.steps": 9}
    return load_recipe(TuneRecipe, None, settings | {key.replace("__", "."): v for key, v in changes.items()})


def begin(out, data=None, parents=(), **changes):
    return Run.create(out, recipe_of(out, **changes), data=data or {}, parents=parents)


def state_writer(content: bytes):
    def write(folder):
        (folder / "weights.bin").write_bytes(content)
        (folder / "nested").mkdir()
        (folder / "nested" / "state.json").write_text(json.dumps(len(content)))

    return write


def test_a_fresh_run_holds_recipe_and_identity(tmp_path):
    out = tmp_path / "a" / "run"
    with begin(out, data={"rows.jsonl": "d1"}, parents=[Parent("m", "p1")]) as run:
        assert run.resume() is None
    assert load_recipe(TuneRecipe, out / "recipe.yaml") == recipe_of(out)
    identity = json.loads((out / "run.json").read_text())
    assert identity["data"] == {"rows.jsonl": "d1"}
    assert identity["parents"] == [{"name": "m", "digest": "p1"}]
    assert identity["camelid"]
    assert identity["torch"]


def test_the_very_same_run_is_resumed_and_another_refused(tmp_path):
    out = tmp_path / "run"
    begin(out, data={"rows.jsonl": "d1"}).close()
    begin(out, data={"rows.jsonl": "d1"}).close()
    with pytest.raises(WrongCall, match=r"recipe\.training\.learning_rate: 0\.001 there, 0\.5 now"):
        begin(out, data={"rows.jsonl": "d1"}, training__learning_rate=0.5)
    with pytest.raises(WrongCall, match=r'data\.rows\.jsonl: "d1" there, "d2" now'):
        begin(out, data={"rows.jsonl": "d2"})
    with pytest.raises(WrongCall, match="parents"):
        begin(out, data={"rows.jsonl": "d1"}, parents=[Parent("m", "p")])


def test_settings_that_change_no_result_may_differ(tmp_path):
    out = tmp_path / "run"
    begin(out, data__workers=2).close()
    changes = {
        "data__workers": 7,
        "training__track": ("tensorboard",),
        "training__validate_every": 3,
        "training__checkpoint_every": 5,
        "training__keep_checkpoints": 9,
    }
    begin(out, **changes).close()
    assert load_recipe(TuneRecipe, out / "recipe.yaml") == recipe_of(out, **changes)
    with pytest.raises(WrongCall, match=r"recipe\.training\.micro_batch_size: null there, 4 now") as refused:
        begin(out, **changes, training__micro_batch_size=4)
    assert "workers" not in str(refused.value)


def test_a_recipe_cut_short_by_a_kill_is_written_again(tmp_path):
    out = tmp_path / "run"
    begin(out).close()
    (out / "recipe.yaml").write_text("# the verb")
    begin(out).close()
    assert load_recipe(TuneRecipe, out / "recipe.yaml") == recipe_of(out)


def test_a_run_that_was_moved_is_still_this_run(tmp_path):
    begin(tmp_path / "here").close()
    (tmp_path / "here").rename(tmp_path / "there")
    begin(tmp_path / "there").close()


def test_a_folder_of_something_else_is_refused_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(WrongCall, match=r"neither empty nor a run \(it contains thesis.tex\)"):
        begin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(WrongCall, match="is a file"):
        begin(tmp_path / "thesis.tex")


def test_two_processes_cannot_write_one_run(tmp_path):
    with begin(tmp_path / "run"), pytest.raises(WrongCall, match="in use by process"):
        begin(tmp_path / "run")
    begin(tmp_path / "run").close()


def test_a_checkpoint_is_found_again_whole(tmp_path):
    with begin(tmp_path) as run:
        for step in (2, 4, 6):
            run.save_checkpoint(step, state_writer(b"x" * step), keep=2)
        assert [found.step for found in list_checkpoints(tmp_path)] == [4, 6]
        checkpoint = run.resume()
    assert checkpoint is not None
    assert checkpoint.step == 6
    assert checkpoint.folder.name == "step-00000006"
    assert (checkpoint.folder / "weights.bin").read_bytes() == b"x" * 6
    assert set(json.loads((checkpoint.folder / "digest.json").read_text())) == {
        "weights.bin",
        "nested/state.json",
    }


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "digests"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(tmp_path, caplog, damage):
    with begin(tmp_path) as run:
        for step in (2, 4):
            run.log({"step": step, "loss": 1.0})
            run.save_checkpoint(step, state_writer(bytes(range(200))))
    newest = tmp_path / "checkpoints" / "step-00000004"
    match damage:
        case "truncate":
            (newest / "weights.bin").write_bytes(bytes(range(199)))
        case "flip":
            (newest / "weights.bin").write_bytes(bytes([1, *range(1, 200)]))
        case "remove":
            (newest / "nested" / "state.json").unlink()
        case "digests":
            (newest / "digest.json").write_text("{")
    with begin(tmp_path) as run:
        checkpoint = run.resume()
        assert checkpoint is not None
        assert checkpoint.step == 2
        run.save_checkpoint(4, state_writer(b"again"))
    said = caplog.messages
    assert len(said) == 1
    assert "step-00000004 is damaged" in said[0]
    assert "using the one before" in said[0]
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 2, "loss": 1.0}]
    assert find_damage(newest) is None


def test_with_no_whole_checkpoint_the_run_begins_anew_and_says_so(tmp_path, caplog):
    with begin(tmp_path) as run:
        run.log({"step": 1})
        run.save_checkpoint(1, state_writer(b"x"))
    (tmp_path / "checkpoints" / "step-00000001" / "weights.bin").write_bytes(b"y")
    with begin(tmp_path) as run:
        assert run.resume() is None
    assert "starts over" in caplog.messages[-1]
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_a_failed_save_leaves_nothing_behind(tmp_path):
    def fail(folder):
        (folder / "weights.bin").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with begin(tmp_path) as run:
        run.save_checkpoint(1, state_writer(b"x"))
        with pytest.raises(OSError, match="No space"):
            run.save_checkpoint(2, fail)
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
        assert latest_checkpoint(tmp_path) is not None


def test_metrics_are_cut_behind_the_checkpoint_at_every_byte(tmp_path):
    records = [{"step": step, "loss": step / 2} for step in range(1, 6)]
    whole = "".join(json.dumps(record) + "\n" for record in records).encode()
    path = tmp_path / "metrics.jsonl"
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        lines = whole[:length].count(b"\n")
        assert read_metrics(path) == records[:lines]
        cut_metrics(path, step=3)
        assert read_metrics(path) == records[: min(lines, 3)]
        assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[: min(lines, 3)])


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 3}\n')
    with pytest.raises(CamelidError, match=r"metrics\.jsonl:2: not JSON"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_digests_follow_content_and_names(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text("one")
    assert digest_path(tmp_path / "a") == digest_path(tmp_path / "b")
    (tmp_path / "b" / "x.txt").rename(tmp_path / "b" / "y.txt")
    assert digest_path(tmp_path / "a") != digest_path(tmp_path / "b")
    assert list(digest_paths([tmp_path / "a" / "x.txt"])) == [str(tmp_path / "a" / "x.txt")]
    with pytest.raises(WrongCall, match="no such file or folder"):
        digest_path(tmp_path / "c")


# A stand-in for training whose loss is a chain: each step's depends on all before, so a lost or doubled step
# shows. It kills itself before the given operation on a file of the run, counted from 1.
CHAIN = textwrap.dedent("""
    import os, signal, sys, zlib
    from pathlib import Path
    from camelid.recipes.recipe import load_recipe
    from camelid.recipes.tune import TuneRecipe
    from camelid.runs.run import Run

    out, left = Path(sys.argv[1]), int(sys.argv[2])

    def count_down(event, arguments):
        global left
        if arguments and str(out) in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count_down)
    settings = {"out": str(out), "model": "m", "data.train": "rows.jsonl", "training.steps": 9}
    with Run.create(out, load_recipe(TuneRecipe, None, settings)) as run:
        checkpoint = run.resume()
        state = 0 if checkpoint is None else int((checkpoint.folder / "state").read_text())
        for step in range(1 if checkpoint is None else checkpoint.step + 1, 301):
            state = zlib.crc32(f"{state} {step}".encode())
            run.log({"step": step, "loss": state})
            if step % 3 == 0:
                def write(folder):
                    (folder / "state").write_text(str(state))
                    (folder / "ballast").write_bytes(bytes(200_000))
                run.save_checkpoint(step, write)
    print("done")
""")


@pytest.mark.slow
def test_killed_at_any_moment_the_curve_is_that_of_the_unbroken_run(tmp_path):
    script = tmp_path / "chain.py"
    script.write_text(CHAIN)

    def run(name, kill_at=0):
        command = [sys.executable, str(script), str(tmp_path / name), str(kill_at)]
        return subprocess.run(command, capture_output=True, text=True)

    assert run("unbroken").stdout == "done\n"
    chance = random.Random(0)
    kills = 0
    while (ended := run("broken", chance.randrange(1, 500))).returncode == -signal.SIGKILL:
        kills += 1
        assert kills < 100, "it makes no progress"
    assert ended.stdout == "done\n", ended.stderr
    assert kills >= 5
    curves = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("unbroken", "broken")]
    assert curves[0] == curves[1]
    leftovers = list((tmp_path / "broken").rglob(".*"))
    assert leftovers == []
    assert [found.step for found in list_checkpoints(tmp_path / "broken")] == [297, 300]


@pytest.mark.parametrize("out", ["new", "there", "link", "link to nothing"])
def test_a_run_that_cannot_start_removes_what_it_made_and_nothing_else(tmp_path, out):
    """A folder that was there may be a mount, and a link stays; the first error is the one that is told."""
    folder, real = tmp_path / out, tmp_path / "real"
    if out == "there":
        folder.mkdir()
    if out.startswith("link"):
        folder.symlink_to(real)
    if out == "link":
        real.mkdir()
    before = sorted(tmp_path.iterdir())
    fail_in(folder, lambda: (folder / "tokens").mkdir())
    assert sorted(tmp_path.iterdir()) == before
    assert not folder.exists() or not list(folder.iterdir())
    fail_in(folder, lambda: (folder / "round-1").mkdir())
    assert {"round-1", "run.json"} <= {path.name for path in folder.iterdir()}
    with begin(folder):  # work that is kept can be gone on from
        assert (folder / "round-1").is_dir()
    assert folder.is_symlink() == out.startswith("link")


def fail_in(folder, work):
    """Begins a run that fails after this work; the error that is told is the one of the work."""

    def fail():
        with begin(folder):
            work()
            raise CamelidError("the data is bad")

    with pytest.raises(CamelidError, match="the data is bad"):
        fail()


def test_a_full_disk_is_told_although_closing_fails_too(tmp_path, monkeypatch):
    run = begin(tmp_path / "run")
    run.log({"step": 0})

    def close():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "close", close)
    with pytest.raises(ValueError, match="the first error"), run:
        raise ValueError("the first error")


def test_what_a_killed_tokenising_left_is_removed(tmp_path):
    out = tmp_path / "run"
    begin(out).close()
    (out / "tokens" / ".train.4711.partial").mkdir(parents=True)
    (out / "tokens" / ".train.lock").write_text("4711 on elsewhere")
    begin(out).close()
    assert list((out / "tokens").iterdir()) == []


def test_a_run_killed_in_its_first_moment_is_begun_again(tmp_path):
    out = tmp_path / "run"
    begin(out).close()
    for name in ("run.json", "recipe.yaml"):
        (out / name).unlink()
    (out / ".run.json.123.partial").write_text("{")
    begin(out).close()
    assert {path.name for path in out.iterdir()} == {"run.lock", "run.json", "recipe.yaml"}
    shutil.rmtree(out)
