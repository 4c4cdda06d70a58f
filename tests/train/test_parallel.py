"""Two processes give what one gives: the same rows, the same losses, the same weights."""

import socket

import pytest
import torch
from safetensors.torch import load_file

from camelid.data.rows.batches import batches
from camelid.data.rows.examples import Example
from camelid.data.rows.packing import PackedExamples
from camelid.runs.run import read_metrics

SETTINGS = {"training__steps": 12, "training__validate_every": 4, "training__learning_rate": 0.01}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("world", [2, 4])
def test_the_order_of_the_data_does_not_depend_on_the_number_of_processes(random_batch, world):
    whole = random_batch(rows=9, time=10)
    examples = [
        Example(tokens.numpy(), targets.numpy(), weights.numpy())
        for tokens, targets, weights in zip(whole.tokens, whole.targets, whole.weights, strict=True)
    ]
    rows = PackedExamples(examples, 10, seed=3, pad_id=0, digest="")
    alone = batches(rows, 4, start_step=1)
    parts = [batches(rows, 4, 1, rank, world) for rank in range(world)]
    for _ in range(5):
        batch, slices = next(alone), [next(part) for part in parts]
        for name in ("tokens", "targets", "weights", "documents", "positions"):
            together = torch.cat([getattr(part, name) for part in slices])
            assert torch.equal(together, getattr(batch, name)), name


@pytest.mark.slow
def test_two_processes_give_the_losses_and_weights_of_one(
    tmp_path, monkeypatch, command_line, pretrain_words
):
    monkeypatch.setitem(command_line.environment, "GLOO_SOCKET_IFNAME", "lo")
    command_line.run(pretrain_words(tmp_path / "one", **SETTINGS))
    address = ("--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", *address)
    said = command_line.run(pretrain_words(tmp_path / "two", **SETTINGS), launcher)
    assert said.count("step 12/12  loss") == 1

    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert [record["step"] for record in two] == [record["step"] for record in one]
    for alone, shared in zip(one, two, strict=True):
        for key in ("tokens", "trained_tokens"):
            assert shared.get(key) == alone.get(key)
        for key in ("loss", "grad_norm", "validation_loss"):
            if key in alone:
                assert shared[key] == pytest.approx(alone[key], rel=1e-5), (alone["step"], key)
    ours, theirs = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_batch_that_the_processes_cannot_share_is_refused(tmp_path, command_line, pretrain_words):
    address = ("--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", *address)
    words = pretrain_words(tmp_path / "run", training__micro_batch_size=1, training__global_batch_tokens=192)
    process = command_line.start(words, launcher)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "batch_size is 3; it must be a multiple of the 2 processes" in errors
    assert not (tmp_path / "run" / "model").exists()
