"""A state is saved while training goes on, and what cannot be written ends the run without a loss."""

import threading

import pytest
import torch

from camelid.base.errors import CamelidError
from camelid.cli import main as cli
from camelid.runs.run import Run, list_checkpoints, read_metrics
from camelid.train import saving
from camelid.train.optim import adamw
from camelid.train.parallel import ProcessGroup
from camelid.train.saving import Saver
from camelid.train.state import load_state, save_state


@pytest.fixture
def run(tmp_path):
    with (tmp_path / "run.lock").open("w") as lock:
        yield Run(tmp_path, lock, fresh=False)


def updated(model, optimizer):
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    return {name: each.detach().clone() for name, each in model.named_parameters()}


def optimizer_of(model):
    return adamw(model.named_parameters(), weight_decay=0.0, betas=(0.9, 0.95), eps=1e-8)


def saver_of(run, model, optimizer):
    return Saver(run, model, optimizer, ProcessGroup(), keep=2)


@pytest.mark.parametrize("room", [0.5, 0.0])
def test_the_state_that_is_written_is_the_one_of_its_step(run, tiny, monkeypatch, room):
    """With room for a copy, updates go on while a state is written; without, training waits."""
    monkeypatch.setattr(saving, "ROOM", room)
    may_write = threading.Event()

    def when_allowed(*arguments):
        assert may_write.wait(60)
        save_state(*arguments)

    monkeypatch.setattr(saving, "save_state", when_allowed)
    model = tiny()
    optimizer = optimizer_of(model)
    first = updated(model, optimizer)
    if not room:
        may_write.set()
    with saver_of(run, model, optimizer) as saver:
        saver.save(1)
        assert len(list_checkpoints(run.folder)) == (0 if room else 1)
        second = updated(model, optimizer)
        may_write.set()
        saver.save(2)
        saver.finish()
    for checkpoint, expected in zip(list_checkpoints(run.folder), (first, second), strict=True):
        other = tiny(seed=1)
        assert load_state(checkpoint.folder, other, optimizer_of(other)) == checkpoint.step
        assert all(torch.equal(each, expected[name]) for name, each in other.named_parameters())


def test_a_save_that_fails_is_known_at_the_next_step(run, tiny, monkeypatch):
    model = tiny()
    optimizer = optimizer_of(model)
    updated(model, optimizer)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with saver_of(run, model, optimizer) as saver:
        saver.save(1)
        saver.finish()
        monkeypatch.setattr(saving, "save_state", full)
        saver.save(2)
        saver._thread.join()
        assert saver.failed
        with pytest.raises(CamelidError, match=r"step 2 could not be saved .*No space left"):
            saver.save(3)
    assert [checkpoint.step for checkpoint in list_checkpoints(run.folder)] == [1]


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_the_same_command_goes_on(tmp_path, pretrain_words, monkeypatch, capsys):
    out = tmp_path / "run"
    words = pretrain_words(out, training__steps=9, training__checkpoint_every=2)

    def full(folder, state, group):
        if state.step == 6:
            raise OSError(28, "No space left on device", str(folder / "weights.safetensors"))
        save_state(folder, state, group)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_state", full)
        assert cli.main(words) == 1
    said = capsys.readouterr().err
    assert f"{out / 'checkpoints'}: the state after step 6 could not be saved (" in said
    assert "No space left on device" in said
    assert "Traceback" not in said
    assert [checkpoint.step for checkpoint in list_checkpoints(out)] == [2, 4]
    assert not list((out / "checkpoints").glob(".*.partial"))
    assert cli.main(words) == 0
    assert [record["step"] for record in read_metrics(out / "metrics.jsonl")] == list(range(10))
