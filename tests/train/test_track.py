"""Curves given to TensorBoard are those of metrics.jsonl, and a missing package is named."""

from contextlib import contextmanager

import pytest
import torch

from camelid.base.errors import CamelidError
from camelid.recipes.training import Training
from camelid.runs.null_run import NullRun
from camelid.train import track
from camelid.train.fit import Setup, _tracked
from camelid.train.parallel import ProcessGroup
from camelid.train.track import tracked

RECORDS = [
    {"step": 1, "loss": 4.5, "learning_rate": 1e-3, "dtype": "float32"},
    {"step": 2, "loss": 4.25, "learning_rate": 2e-3, "validation_loss": 4.0},
]


def test_tensorboard_holds_every_number(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with tracked(("tensorboard",), tmp_path) as log:
        for record in RECORDS:
            log(record)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "learning_rate", "validation_loss"}
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 4.5), (2, 4.25)]


def test_weights_and_biases_keeps_the_run_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with tracked(("wandb",), tmp_path) as log:
        log(RECORDS[0])
    assert list(tmp_path.glob("wandb/offline-run-*"))


@pytest.mark.parametrize("rank", [0, 1])
def test_trackers_are_opened_in_the_main_process_only(rank, tmp_path, monkeypatch):
    opened = []

    @contextmanager
    def tracker(folder):
        opened.append(folder)
        yield lambda numbers: None

    monkeypatch.setattr(track, "_OPEN", {"tensorboard": tracker})
    training = Training(steps=1, context_length=64, track=("tensorboard",))
    setup = Setup(ProcessGroup(rank, 2), torch.float32, 1)
    with _tracked(NullRun(tmp_path), training, setup) as log:
        log(RECORDS[0])
    assert opened == ([tmp_path] if rank == 0 else [])


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_named(name, tmp_path, monkeypatch):
    def missing(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(track, "import_module", missing)
    with (
        pytest.raises(CamelidError, match=rf"{name}, which is not installed: pip install 'camelid\[track\]'"),
        tracked((name,), tmp_path),
    ):
        pass
