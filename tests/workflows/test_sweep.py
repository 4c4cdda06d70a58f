"""`camelid scale sweep`: finished rungs are never trained again, and the held-out one is predicted before."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from camelid.base.errors import WrongCall
from camelid.cli.main import main
from camelid.data.rows.shards import TokenShards, write_shards
from camelid.recipes.data import TextData
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.recipe import load_recipe, save_recipe
from camelid.recipes.sweep import SweepRecipe
from camelid.recipes.training import Training
from camelid.runs.prediction import Prediction
from camelid.scaling.alike import differences
from camelid.scaling.fit import save_fit
from camelid.scaling.fitting import fit_points
from camelid.scaling.points import Points
from camelid.scaling.reading import run_folders
from camelid.text.tokenizer import load_tokenizer
from camelid.workflows import plan
from camelid.workflows.sweep import rungs, stage
from camelid.workflows.sweep.coordinates import Coordinates

WORDS = ["--tokens-per-parameter", "4", "--widths", "16", "32", "48", "64", "--held-out-width", "80"]
WORDS += ["--vocab-size", "300", "--context-length", "32", "--batch-tokens", "256"]


def loss(n: float, d: float) -> float:
    return 1.5 + 40 / n**0.4 + 60 / d**0.3


class FakeTraining:
    """Writes finished runs whose losses follow a law; stops with Ctrl-C after `stop_after` of them."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.stop_after = 10**6

    def __call__(self, recipe) -> None:
        if len(self.trained) == self.stop_after:
            raise KeyboardInterrupt("stopped")
        self.trained.append(recipe.out.name)
        spec = recipe.model.spec(300)
        recipe.out.mkdir(parents=True)
        tokens, steps = recipe.training.global_batch_tokens, recipe.training.total_steps
        identity = {"recipe": recipe.model_dump(mode="json")}
        (recipe.out / "run.json").write_text(json.dumps(identity))
        save_recipe(recipe, recipe.out / "recipe.yaml")
        found = [loss(spec.parameter_count(), tokens * (step + 1)) for step in range(steps)]
        lines = [{"step": step, "tokens": tokens, "loss": value} for step, value in enumerate(found, 1)]
        lines[-1]["validation_loss"] = found[-1]
        (recipe.out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if recipe.prediction is not None:
            (recipe.out / "prediction.json").write_text(recipe.prediction.read_text())
        tokenizer = load_tokenizer(recipe.tokenizer)
        write_shards(
            [("x" * 999, "a")] * 20, tokenizer, recipe.out / "tokens" / "train", validation_fraction=0
        )
        (recipe.out / "model").mkdir()
        (recipe.out / "model" / "config.json").write_text(json.dumps({"vocab_size": 300}))


@pytest.fixture
def training(monkeypatch) -> FakeTraining:
    fake = FakeTraining()
    monkeypatch.setattr(rungs, "pretrain", fake)
    moved = Coordinates({16: 0.3, 32: 0.3}, 0.0)  # tests/scaling/test_sweep_ladder.py measures them
    monkeypatch.setattr(stage, "coordinate_check", lambda *_: moved)
    monkeypatch.setattr(stage, "fit_points", partial(stage.fit_points, resamples=30))
    return fake


def test_a_stopped_sweep_goes_on_without_repeating_a_rung(tmp_path, training, capsys):
    out = tmp_path / "sweep"
    words = ["scale", "sweep", "--out", str(out), *WORDS]
    training.stop_after = 5
    assert main(words) == 130
    assert len(training.trained) == 5
    training.stop_after = 10**6
    assert main(words) == 0
    text = capsys.readouterr().out
    planned = [rung["name"] for rung in json.loads((out / "ladder.json").read_text())["rungs"]]
    assert training.trained == planned  # each once, the held-out one last
    fit = json.loads((out / "fit" / "fit.json").read_text())
    assert fit["constants"]["alpha"] == pytest.approx(0.4, rel=0.02)
    assert fit["points"] == len(planned) - 1
    longest = max(rung["tokens"] for rung in json.loads((out / "ladder.json").read_text())["rungs"])
    shards = TokenShards(out / "rungs" / planned[0] / "tokens" / "train")
    epochs = longest / (shards.token_count + shards.lead * len(shards))
    assert f"{longest:,} tokens are {epochs:.2f} epochs" in fit["warnings"][0]
    prediction = Prediction.read(out / f"{planned[-1]}-prediction.json")
    assert prediction.loss == pytest.approx(loss(prediction.parameters, prediction.tokens), rel=2e-3)
    assert prediction.hit(prediction.loss)
    assert "the validation loss is" in text
    page = (out / "report.html").read_text()
    for words_of_page in (
        "Held-out run",
        "Sample efficiency",
        "Coordinate check",
        "Tokens for the same loss",
    ):
        assert words_of_page in page
    before = (out / "report.html").read_bytes()
    assert main(words) == 0
    assert training.trained == planned
    assert (out / "report.html").read_bytes() == before
    assert len(run_folders(out)) == len(planned)  # for `camelid scale fit OUT`
    words = ["--vocab-size", "300", "--context-length", "32", "--flops", "1e11", "--out", str(tmp_path / "p")]
    assert main(["scale", "plan", "--law", str(out), *words]) == 0
    assert "its losses are others" not in capsys.readouterr().err
    recipe = load_recipe(PretrainRecipe, tmp_path / "p" / "recipe.yaml")
    run, width = recipe.training, recipe.model.hidden_size
    assert (run.optimizer, run.global_batch_tokens, run.warmup_fraction) == ("muon", 256, rungs.WARMUP)
    assert run.learning_rate == pytest.approx(8e-3 * 64 / width, rel=0.01)  # as the law's own rungs


def finished_sweep(out: Path, vocabulary: int, **settings) -> Path:
    """The folder of a sweep as `scale plan` reads it: its recipe, a rung's model and its fit."""
    recipe = SweepRecipe(out=out, context_length=32, batch_tokens=256, **settings)
    model = out / "rungs" / "w16" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps({"vocab_size": vocabulary}))
    save_recipe(recipe, out / "recipe.yaml")
    n, d = map(np.ravel, np.meshgrid(np.geomspace(1e4, 1e6, 4), np.geomspace(1e5, 1e7, 4)))
    save_fit(fit_points("chinchilla", Points.of(n, d, loss(n, d)), resamples=30), {}, out / "fit")
    return out


@pytest.mark.parametrize(
    ("settings", "planned", "warned"),
    [
        ({"vocab_size": 300}, ["--vocab-size", "300"], False),
        ({"vocab_size": 300}, [], True),  # 32,000 by default
        ({"vocab_size": 300}, ["--tokenizer", "TOKENIZER"], False),  # whose 290 entries the models have
        ({"tokenizer": "elsewhere"}, ["--vocab-size", "290"], False),
        ({"tokenizer": "elsewhere"}, ["--vocab-size", "512"], True),  # the recipe's unused default
    ],
)
def test_a_plan_compares_the_vocabularies_that_are_used(
    tmp_path, monkeypatch, capsys, settings, planned, warned
):
    out = finished_sweep(tmp_path / "sweep", 290, **settings)
    monkeypatch.setattr(plan, "load_tokenizer", lambda path: SimpleNamespace(vocab_size=290))
    words = ["--context-length", "32", "--flops", "1e11", *planned]
    for place, law in enumerate((out, out / "fit")):
        planned_in = tmp_path / f"plan-{place}"
        assert main(["scale", "plan", "--law", str(law), *words, "--out", str(planned_in)]) == 0
        errors = capsys.readouterr().err
        assert ("a vocabulary of 290 entries" in errors) == warned
        assert "--context-length" not in errors
        run = load_recipe(PretrainRecipe, planned_in / "recipe.yaml").training
        assert (run.global_batch_tokens, run.warmup_fraction) == (256, rungs.WARMUP)  # the sweep's


def test_runs_of_different_data_are_named(tmp_path):
    """Two runs of one text under two names are alike; others differ in what `run.json` has of them."""
    changes = [
        {},
        {"path": "b.txt"},
        {"text": "2"},
        {"tokenizer": "2"},
        {"context": 64},
    ]
    folders = []
    for place, change in enumerate(changes):
        path = change.get("path", "a.txt")
        recipe = PretrainRecipe(
            out=tmp_path / str(place),
            data=TextData(train=(Path(path),), validation=(Path("held.txt"),)),
            tokenizer=Path("t"),
            training=Training(steps=1, context_length=change.get("context", 32)),
        )
        recipe.out.mkdir()
        identity = {
            "recipe": recipe.model_dump(mode="json"),
            "data": {path: change.get("text", "1"), "held.txt": "3"},
            "parents": [{"name": "t", "digest": change.get("tokenizer", "1")}],
        }
        (recipe.out / "run.json").write_text(json.dumps(identity))
        folders.append(recipe.out)
    assert list(differences(folders[:2])) == []
    found = list(differences(folders))
    for warning, name, folder in zip(
        found, ("training texts", "tokenizers", "context lengths"), folders[2:], strict=True
    ):
        assert f"different {name}, such as {folders[0]} and {folder}" in warning
    assert list(differences([])) == []


def test_another_sweep_in_the_same_folder_and_bad_settings_are_refused(tmp_path, training, capsys):
    out = tmp_path / "sweep"
    training.stop_after = 0
    assert main(["scale", "sweep", "--out", str(out), *WORDS]) == 130
    assert main(["scale", "sweep", "--out", str(out), *WORDS, "--learning-rate", "0.1"]) == 2
    assert "recipe.learning_rate" in capsys.readouterr().err
    other = ["scale", "sweep", "--out", str(tmp_path / "other")]
    assert main([*other, "--batch-tokens", "100"]) == 2
    assert "is not a multiple of context_length" in capsys.readouterr().err
    assert main([*other, "--validation", "x.txt"]) == 2
    assert main([*other, *WORDS, "--held-out-width", "64"]) == 2
    assert not (tmp_path / "other" / "rungs").exists()


def test_a_damaged_prediction_is_refused(tmp_path):
    path = tmp_path / "prediction.json"
    path.write_text(json.dumps({"loss": 2.0}))
    with pytest.raises(WrongCall, match="'low' is missing"):
        Prediction.read(path)
    good = Prediction(2.0, 1.9, 2.1, 0.9, 1e6, 1e7, 6e13, "chinchilla", "abc")
    good.write(Path(path))
    assert Prediction.read(path) == good
    assert good.verdict(2.05).startswith("hit: the validation loss is 2.0500, predicted 2.0000")
    assert good.verdict(2.2).startswith("miss")
