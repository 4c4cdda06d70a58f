"""The loop with a source of batches and an objective of the caller's own, as reinforcement learning brings
them."""

import pytest
import torch

from camelid.recipes.recipe import load_recipe
from camelid.recipes.training import Training
from camelid.recipes.tune import TuneRecipe
from camelid.runs.null_run import NullRun
from camelid.runs.run import Run, list_checkpoints, read_metrics
from camelid.train.fit import Setup, fit
from camelid.train.objectives import cross_entropy
from camelid.train.parallel import ProcessGroup
from camelid.train.validation import ValidationLoss

SETUP = Setup(ProcessGroup(), torch.float32, 2)


def training(**changes):
    settings = {
        "steps": 4,
        "context_length": 32,
        "compile": False,
        "optimizer": "adamw",
        "checkpoint_every": 2,
    }
    return Training(**(settings | {"validate_every": 2} | changes))


@pytest.fixture
def run(tmp_path):
    settings = {"out": str(tmp_path / "run"), "model": "m", "data.train": "rows.jsonl", "training.steps": 4}
    with Run.create(tmp_path / "run", load_recipe(TuneRecipe, None, settings)) as run:
        yield run


def weights_of(model):
    return model.norm.weight.detach().clone()


class Samples:
    """Batches that depend on the model as it is when they are asked for; remembers its weights."""

    def __init__(self, model, random_batch):
        self.model, self.random_batch = model, random_batch
        self.begun, self.seen = [], []

    def __call__(self, start):
        self.begun.append(start)
        for step in range(start, 100):
            self.seen.append(weights_of(self.model))
            yield self.random_batch(seed=step)


def test_each_batch_is_asked_for_after_the_update_before_it(tiny, random_batch, run):
    model = tiny()
    samples = Samples(model, random_batch)
    after = []

    def validate():
        after.append(weights_of(model))
        return ValidationLoss(1.5, 0.5)

    fit(run, model, samples, cross_entropy(model), training(validate_every=1), SETUP, validate)
    assert samples.begun == [0]
    assert len(samples.seen) == 4  # none is made in vain
    assert all(torch.equal(*pair) for pair in zip(samples.seen, after[:4], strict=True))
    assert not any(torch.equal(*pair) for pair in zip(after[1:], after[:-1], strict=True))
    assert not model.training


def test_the_objective_is_the_callers(tiny, random_batch, run):
    model = tiny()
    plain = cross_entropy(model)
    batch = random_batch(seed=0)
    truth = float(plain(batch).detach() / batch.weights.sum())
    fit(run, model, Samples(model, random_batch), lambda part: -3 * plain(part), training(), SETUP)
    records = read_metrics(run.folder / "metrics.jsonl")
    assert records[0] == {"step": 0, "dtype": "float32"}
    assert records[1]["loss"] == pytest.approx(-3 * truth)
    assert [record["step"] for record in records] == [0, 1, 2, 3, 4]
    assert not any("validation_loss" in record for record in records)
    assert [checkpoint.step for checkpoint in list_checkpoints(run.folder)] == [2, 4]


def test_a_resumed_source_begins_behind_the_checkpoint(tiny, random_batch, run):
    model, again = tiny(), tiny(seed=1)
    fit(run, model, Samples(model, random_batch), cross_entropy(model), training(), SETUP)
    (run.folder / "checkpoints" / "step-00000004" / "weights.safetensors").unlink()
    samples = Samples(again, random_batch)
    fit(run, again, samples, cross_entropy(again), training(), SETUP)
    assert samples.begun == [2]
    for (name, one), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_a_process_without_a_folder_trains_the_same(tiny, random_batch, run, tmp_path):
    models = []
    for own in (run, NullRun(tmp_path / "none")):
        model = tiny()
        fit(own, model, Samples(model, random_batch), cross_entropy(model), training(), SETUP)
        models.append(model.state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert not (tmp_path / "none").exists()
