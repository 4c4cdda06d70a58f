"""A run goes on with another number of processes after any of them was killed, on the same tokens."""

import contextlib
import io
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
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
SEGMENTS = (
    (1, 1, 3, signal.SIGKILL),
    (2, 1, 5, signal.SIGSTOP),
    (4, 2, 7, signal.SIGKILL),
    (1, 1, None, None),
)
"""Processes, those that share a matrix, and the update in which the last process gets a signal."""
PATIENCE = "15"
"""Seconds after which a process that hangs ends the job."""


def run(rank, words, kill_at, number, consumed, errors):
    """The command line in a process that keeps which tokens it computes, and is killed if it shall be.

    It is killed or stopped once the state before is on disk, which a thread writes.
    """
    from camelid.train import fit, parallel

    parallel.ANSWER = 6.0
    read = fit.batches

    def watched(rows, size, start, data_rank, data_size):
        for step, batch in enumerate(read(rows, size, start, data_rank, data_size), start):
            if step == kill_at and rank == int(os.environ["WORLD_SIZE"]) - 1:
                checkpoints = Path(words[words.index("--out") + 1]) / "checkpoints"
                while not (checkpoints / f"step-{kill_at - kill_at % 2:08}").exists():
                    time.sleep(0.01)
                os.kill(os.getpid(), number)
            np.save(consumed / f"{step:04}-{data_rank:04}.npy", batch.tokens.numpy())
            yield batch

    fit.batches = watched
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = cli.main(words)
    (errors / f"{rank}.txt").write_text(said.getvalue())
    sys.exit(code)


def tune_all(rank, tuned, errors):
    """Several tunings in one group of processes, and one that is refused."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        codes = [cli.main(words) for words in tuned]
    (errors / f"{rank}.txt").write_text(said.getvalue())
    with contextlib.redirect_stderr(io.StringIO()) as said:
        codes.append(cli.main([*tuned[-1], "--lora.base", "nf4"]) - 2)
    (errors / "refused.txt").write_text(said.getvalue()) if rank == 0 else None
    dist.barrier()  # the first process holds the store, which the other may still need
    sys.exit(any(codes))


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
    assert start(run, 1, words, None, None, tmp_path / "tokens", tmp_path) == [0]
    consumed = {path.name[:4]: np.load(path) for path in sorted((tmp_path / "tokens").iterdir())}
    assert len(consumed) == STEPS

    out, found = tmp_path / "elastic", {}
    for place, (size, tensor, kill_at, number) in enumerate(SEGMENTS):
        (folder := tmp_path / f"segment-{place}").mkdir()
        words = [*pretrain_words(out, **SETTINGS), "--parallel.tensor", str(tensor)]
        began = time.monotonic()
        words += ["--parallel.timeout", PATIENCE] if number == signal.SIGSTOP else []
        codes = start(run, size, words, kill_at, number, folder, tmp_path)
        assert codes == ([0] if kill_at is None else [*[1] * (size - 1), -signal.SIGKILL]), place
        assert time.monotonic() - began < 200, place
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


def test_what_two_processes_tune_is_what_one_does(tmp_path, tune_words):
    whole = {"training__learning_rate": 0.01, "training__eps": 1e-4, "training__steps": 4}
    settings = whole | {"lora__rank": 2, "lora__dropout": 0.2}
    teacher = tune_words(tmp_path / "teacher", training__learning_rate=0.02, training__steps=10)
    assert cli.main(teacher) == 0
    own = {"distill__teacher": tmp_path / "teacher" / "model", "distill__on_policy": 0.7}
    own |= {"distill__max_new_tokens": 12}
    kinds = {"whole": whole, "given": settings, "sampled": settings | own}
    tuned = []
    for kind, words in kinds.items():
        assert cli.main(tune_words(tmp_path / f"{kind}-1", **words)) == 0
        tuned += [
            [*tune_words(tmp_path / f"{kind}-2-{size}", **words), "--parallel.tensor", str(size)]
            for size in (1, 2)
        ]
    assert start(tune_all, 2, tuned, tmp_path) == [0, 0], (tmp_path / "0.txt").read_text()
    for kind in kinds:
        for size in (1, 2):
            several, one = tmp_path / f"{kind}-2-{size}", tmp_path / f"{kind}-1"
            made = "model/model" if kind == "whole" else "adapter/adapter_model"
            assert_same_run(several, one, f"{made}.safetensors")
    assert (
        "would cut NF4's blocks of 64 weights: the model's 16 values of all heads"
        in (tmp_path / "refused.txt").read_text()
    )
