"""A quickstart with a law of your own: it chooses the size, and predicts the loss before the run."""

from itertools import product
from pathlib import Path

import pytest

from camelid.cli.main import main
from camelid.recipes.recipe import save_recipe
from camelid.recipes.sweep import SweepRecipe
from camelid.runs.prediction import Prediction
from camelid.scaling.plan import SHAPES, Candidate
from camelid.workflows.quickstart import sizing
from camelid.workflows.quickstart.budget import Budget
from camelid.workflows.quickstart.job import Job
from camelid.workflows.quickstart.journal import Journal
from camelid.workflows.quickstart.recipes import pretrain_recipe


def loss(n: float, d: float) -> float:
    return 0.5 + 40 / n**0.4 + 60 / d**0.3


@pytest.fixture
def law(tmp_path: Path) -> Path:
    table, out = tmp_path / "runs.csv", tmp_path / "law"
    runs = product((1e5, 2e5, 4e5, 8e5), (5e5, 1e6, 2e6))
    rows = [f"{n},{d},{loss(n, d) * (1 + 0.001 * (k % 3 - 1))}" for k, (n, d) in enumerate(runs)]
    table.write_text("\n".join(["parameters,tokens,loss", *rows]))
    assert main(["scale", "fit", str(table), "--resamples", "30", "--out", str(out)]) == 0
    return out


def test_a_sweep_of_another_vocabulary_or_context_is_warned_of(
    law: Path, tmp_path: Path, monkeypatch, caplog
):
    monkeypatch.setattr(sizing, "training_speed", lambda *_, **__: 20_000.0)
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    law.rename(sweep / "fit")
    for sizes, warnings in (({}, 2), ({"vocab_size": 2048, "context_length": 512}, 0)):
        save_recipe(SweepRecipe(out=sweep, **sizes), sweep / "recipe.yaml")
        caplog.clear()
        out = tmp_path / f"out-{warnings}"
        pretrain_recipe(Job(out, (), (), None, 0, Journal(out, {}), Budget(600.0), law=sweep))
        assert len([each for each in caplog.messages if "its losses are others" in each]) == warnings


def test_the_law_chooses_the_size_and_predicts(law: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sizing, "training_speed", lambda *_, **__: 20_000.0)
    out = tmp_path / "out"
    job = Job(out, (), (), None, 0, Journal(out, {}), Budget(600.0), law=law)
    recipe = pretrain_recipe(job)
    flops = 20_000.0 * sizing.REFERENCE.spec(2048).training_flops_per_token(512)
    seconds = job.budget.for_training * (1 - sizing.TUNING_SHARE)
    shapes = [Candidate.of(rung, 2048, 512) for rung in SHAPES]
    best = min(shapes, key=lambda each: loss(each.parameters, seconds * flops / each.flops_per_token))
    assert recipe.model == best.shape
    assert recipe.prediction == out / "prediction.json"
    found = Prediction.read(recipe.prediction)
    assert found.tokens == recipe.training.steps * sizing.BATCH_ROWS * 512
    assert found.loss == pytest.approx(loss(best.parameters, found.tokens), rel=0.01)
    assert found.low < found.loss < found.high
    before = recipe.prediction.read_bytes()
    assert pretrain_recipe(job) == recipe
    assert recipe.prediction.read_bytes() == before


def test_a_law_needs_a_model_to_train(law: Path, tmp_path: Path, capsys):
    words = [
        "quickstart",
        "--law",
        str(law),
        "--from",
        "base",
        "--chats",
        str(law),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(words) == 2
    assert "--law has nothing to predict" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["quickstart", "--law", str(tmp_path / "empty"), "--out", str(tmp_path / "o")]) == 2
    assert "no fit.json there" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
