"""A run goes on with another number of processes after any of them was killed, on the same tokens."""

import contextlib
import io
import os
import shutil
import signal
import sys

import numpy as np
import pytest
from processes import start
from safetensors.torch import load_file

from camelid.cli import main as cli
from camelid.runs.run import read_metrics

pytestmark = pytest.mark.slow

STEPS = 10
SETTINGS = {
    "training__steps": STEPS,
    "training__checkpoint_every": 2,
    "training__validate_every": 5,
    "training__learning_rate": 0.01,
    "training__micro_batch_size": 1,
    "training__eps": 1e-4,
}
SEGMENTS = ((1, 1, 3), (2, 1, 5), (4, 2, 7), (1, 1, None))
"""Processes, those that share a matrix, and the update in which the last process is killed."""


def run(rank, words, kill_at, consumed, errors):
    """The command line in a process that keeps which tokens it computes, and is killed if it shall be."""
    from camelid.train import fit, parallel

    parallel.ANSWER = 4.0
    read = fit.batches

    def watched(rows, size, start, data_rank, data_size):
        for step, batch in enumerate(read(rows, size, start, data_rank, data_size), start):
            if step == kill_at and rank == int(os.environ["WORLD_SIZE"]) - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            np.save(consumed / f"{step:04}-{data_rank:04}.npy", batch.tokens.numpy())
            yield batch

    fit.batches = watched
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = cli.main(words)
    (errors / f"{rank}.txt").write_text(said.getvalue())
    sys.exit(code)


def assert_same_run(one, other, artefact):
    """The same curve to float tolerance, each step once, and the same weights."""
    ours, theirs = (read_metrics(folder / "metrics.jsonl") for folder in (one, other))
    assert [record["step"] for record in ours] == [record["step"] for record in theirs]
    for mine, its in zip(ours, theirs, strict=True):
        for key in ("loss", "grad_norm", "validation_loss", "tokens", "trained_tokens"):
            if key in its:
                assert mine[key] == pytest.approx(its[key], rel=1e-3), (its["step"], key)
    weights, expected = (load_file(folder / artefact) for folder in (one, other))
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (weights[name] - tensor).abs().max() < 1e-3, name


def test_kills_and_other_numbers_of_processes_change_nothing(tmp_path, pretrain_words):
    words = pretrain_words(tmp_path / "unbroken", **SETTINGS)
    (tmp_path / "tokens").mkdir()
    assert start(run, 1, words, None, tmp_path / "tokens", tmp_path) == [0]
    consumed = {path.name[:4]: np.load(path) for path in sorted((tmp_path / "tokens").iterdir())}
    assert len(consumed) == STEPS

    out, found = tmp_path / "elastic", {}
    for number, (size, tensor, kill_at) in enumerate(SEGMENTS):
        (folder := tmp_path / f"segment-{number}").mkdir()
        words = [*pretrain_words(out, **SETTINGS), "--parallel.tensor", str(tensor)]
        codes = start(run, size, words, kill_at, folder, tmp_path)
        assert codes == ([0] if kill_at is None else [*[1] * (size - 1), -signal.SIGKILL]), number
        if size > 1:
            said = (tmp_path / "0.txt").read_text()
            assert f"lost process {size - 1} (" in said
            assert f"of {size} processes; the state after step {kill_at - kill_at % 2} is saved" in said
        parts = sorted(folder.iterdir())
        found |= {
            step: np.concatenate([np.load(path) for path in parts if path.name[:4] == step])
            for step in {path.name[:4] for path in parts}
        }
    assert found.keys() == consumed.keys()
    assert all(np.array_equal(found[step], tokens) for step, tokens in consumed.items())
    assert_same_run(out, tmp_path / "unbroken", "model/model.safetensors")


def test_an_adapter_of_two_processes_is_that_of_one(tmp_path, tune_words):
    settings = {"lora__rank": 2, "training__learning_rate": 0.01, "training__eps": 1e-4, "training__steps": 4}
    words = tune_words(tmp_path / "one", **settings)
    assert cli.main(words) == 0
    assert start(run, 2, tune_words(tmp_path / "two", **settings), None, tmp_path, tmp_path) == [0, 0]
    assert_same_run(tmp_path / "two", tmp_path / "one", "adapter/adapter_model.safetensors")
    shutil.rmtree(tmp_path / "two")
    tensor = [*words, "--parallel.tensor", "2"]
    assert start(run, 2, tensor, None, tmp_path, tmp_path) == [2, 2]
    assert "adapters are trained on whole matrices" in (tmp_path / "0.txt").read_text()
