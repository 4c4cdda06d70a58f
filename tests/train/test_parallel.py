"""Two processes give what one gives: the same rows, the same losses, the same weights."""

import contextlib
import io
import socket
import sys
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from processes import start
from safetensors.torch import load_file
from torch.distributed import distributed_c10d
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from camelid.cli import main as cli
from camelid.data.rows.batches import batches
from camelid.data.rows.examples import Example
from camelid.data.rows.packing import PackedExamples
from camelid.runs.null_run import NullRun
from camelid.runs.run import read_metrics
from camelid.train import stages, training_rows
from camelid.train.parallel import ProcessGroup

SETTINGS = {
    "model__dropout": 0.1,
    "training__steps": 6,
    "training__validate_every": 3,
    "training__learning_rate": 0.01,
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def two_processes():
    """The words between `python` and a script or `-m MODULE` that start it twice."""
    address = ("--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    return ("-m", "torch.distributed.run", "--nproc-per-node", "2", *address)


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
    said = command_line.launch(pretrain_words(tmp_path / "two", **SETTINGS), two_processes())
    assert said.count("step 6/6  loss") == 1

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


def call(rank, words, folder):
    """The command line; what it says is in the folder."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = cli.main(words)
    (folder / f"{rank}.txt").write_text(said.getvalue())
    dist.barrier()  # the first process holds the store, which the other may still need
    sys.exit(code)


@pytest.mark.slow
def test_rows_that_the_processes_cannot_share_are_refused(tmp_path, pretrain_words):
    rows = 3
    settings = {"training__micro_batch_size": 1, "training__global_batch_tokens": rows * 64}
    assert start(call, 2, pretrain_words(tmp_path / "run", **settings), tmp_path) == [2, 2]
    errors = (tmp_path / "0.txt").read_text()
    assert f"an update has {rows} rows (global_batch_tokens {rows * 64} / context_length 64)" in errors
    assert f"--training.global-batch-tokens {(rows + 1) * 64}" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


def call_and_end(rank, words, folder):
    """The command line; the first process, which holds the store, does not wait for the other."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = cli.main(words)
    (folder / f"{rank}.txt").write_text(said.getvalue())
    sys.exit(code)


@pytest.mark.slow
def test_what_only_the_main_process_finds_ends_the_others_without_a_traceback(tmp_path, pretrain_words):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert start(call_and_end, 2, pretrain_words(tmp_path / "run"), tmp_path) == [2, 1]
    assert "is neither empty nor a run (it contains notes.txt)" in (tmp_path / "0.txt").read_text()
    said = (tmp_path / "1.txt").read_text()
    assert "lost process 0 of 2 processes; no state is saved yet. What ended by itself has said why" in said


def prepare_slowly(rank, words, folder):
    """The command line where torch gives up after a second while the main process tokenises for three.

    The second counts from joining to training, so that a busy machine may take its time for both.
    """
    join, write, fit_rows = stages.join_process_group, training_rows.write_shards, stages.fit_rows

    def give_up_after(seconds):
        distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), dist.group.WORLD)

    def hurried(parallel):
        group = join(parallel)
        give_up_after(1)
        return group

    def slow(*arguments, **settings):
        time.sleep(3)
        return write(*arguments, **settings)

    def patient(*arguments, **settings):
        give_up_after(240)
        return fit_rows(*arguments, **settings)

    stages.join_process_group, training_rows.write_shards, stages.fit_rows = hurried, slow, patient
    call(rank, words, folder)


@pytest.mark.slow
def test_processes_wait_for_long_preparations_of_the_main_one(tmp_path, pretrain_words):
    words = pretrain_words(tmp_path / "run", training__steps=2)
    assert start(prepare_slowly, 2, words, tmp_path) == [0, 0], (tmp_path / "0.txt").read_text()
    assert [record["step"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [0, 1, 2]


def use_every_method(rank, size):
    dist.init_process_group("gloo")
    try:
        mesh = init_device_mesh("cpu", (size, 1), mesh_dim_names=("data", "tensor"))
        group = ProcessGroup(rank, size, mesh=mesh)
        assert (group.data_rank, group.data_size, group.tensor_size) == (rank, size, 1)
        assert group.broadcast({"from": rank}) == {"from": 0}
        assert group.any_rank(rank == 0, rank == size - 1, rank == size) == [True, True, False]
        assert group.collect(rank) == [0, 1, 2]
        assert group.together([10 * item for item in group.own(range(5))]) == [0, 10, 20, 30, 40]
        assert group.from_main(lambda: rank) == 0
        numbers = torch.tensor([1.0, float(rank)])
        assert group.sum(numbers) is numbers
        assert numbers.tolist() == [size, sum(range(size))]

        parts = [torch.randn(3, 2, generator=torch.Generator().manual_seed(one)) for one in range(size)]
        norm = float(torch.cat(parts).norm())
        parameter = torch.nn.Parameter(DTensor.from_local(torch.zeros(3, 2), mesh["data"], [Shard(0)]))
        parameter.grad = DTensor.from_local(parts[rank].clone(), mesh["data"], [Shard(0)])
        assert group.clip_gradients([parameter], 0.0) == pytest.approx(norm)
        assert torch.equal(parameter.grad.to_local(), parts[rank])
        assert group.clip_gradients([parameter], norm / 4) == pytest.approx(norm)
        torch.testing.assert_close(parameter.grad.to_local(), parts[rank] / 4, rtol=1e-4, atol=1e-6)
        group.barrier()
    finally:
        dist.destroy_process_group()


def test_a_group_of_one_uses_no_communication():
    assert not dist.is_initialized()
    group = ProcessGroup()
    assert group.is_main
    assert group.broadcast("mine") == "mine"
    assert group.any_rank(True, False) == [True, False]
    assert (group.collect(1), group.from_main(lambda: 2)) == ([1], 2)
    assert group.together(group.own(range(3))) == [0, 1, 2]
    assert (group.data_rank, group.data_size, group.tensor_size) == (0, 1, 1)
    group.barrier()


@pytest.mark.slow
def test_a_group_of_several_sums_and_agrees():
    assert start(use_every_method, 3, 3) == [0, 0, 0]


def test_the_run_of_another_process_leaves_no_trace(tmp_path):
    def write(folder):
        raise AssertionError(folder)

    with NullRun(tmp_path / "run") as run:
        assert run.folder == tmp_path / "run"
        assert run.resume() is None
        run.log({"step": 1})
        run.save_checkpoint(1, write)
        run.close()
    assert list(tmp_path.iterdir()) == []
