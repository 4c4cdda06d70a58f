"""Runs with dropout: two are equal, and one that is killed and resumed equals both, in every family."""

import numpy as np
import pytest
import torch

from camelid.cli import main as cli
from camelid.model.architectures import TRAITS
from camelid.runs.run import Run, list_checkpoints, read_metrics
from camelid.train.loop import dropout_seeds

EXACT = ("step", "loss", "grad_norm", "validation_loss")
SETTINGS = {
    "training__steps": 6,
    "training__checkpoint_every": 2,
    "training__validate_every": 3,
    "training__learning_rate": 0.01,
    "model__dropout": 0.2,
}


@pytest.fixture(scope="module")
def words(pretrain_words, text, tmp_path_factory):
    """The words of a small pretraining with dropout; a vocabulary with sentinels for encoder-decoders."""
    vocabulary = tmp_path_factory.mktemp("sentinels") / "vocabulary"
    learn = ["tokenizer", "--data.train", str(text), "--vocab-size", "320", "--sentinels", "20"]
    assert cli.main([*learn, "--out", str(vocabulary)]) == 0

    def build(out, architecture, **changes):
        own = {"tokenizer": vocabulary, "model__architecture": architecture}
        return pretrain_words(out, **(SETTINGS | own | changes))

    return build


def curve(out):
    return [
        {key: record[key] for key in EXACT if key in record} for record in read_metrics(out / "metrics.jsonl")
    ]


def weights(out):
    return (out / "model" / "model.safetensors").read_bytes()


class Killed(BaseException):
    """Ends a run at once, as a kill does."""


def run_killed_after(words, step):
    """A run that ends between a record and its checkpoint."""
    log = Run.log

    def logging(run, record):
        log(run, record)
        if record["step"] == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "log", logging)
        with pytest.raises(Killed):
            cli.main(words)


def global_states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()


@pytest.mark.parametrize("architecture", TRAITS)
def test_two_runs_and_one_that_was_killed_are_equal(architecture, words, tmp_path):
    before = global_states()
    assert cli.main(words(tmp_path / "one", architecture)) == 0
    assert global_states() == before  # nothing else may move the masks, and training moves nothing else
    torch.manual_seed(17)
    run_killed_after(words(tmp_path / "two", architecture), 5)
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path / "two")] == [2, 4]
    torch.manual_seed(18)
    assert cli.main(words(tmp_path / "two", architecture)) == 0
    assert curve(tmp_path / "one") == curve(tmp_path / "two")
    assert weights(tmp_path / "one") == weights(tmp_path / "two")


def test_seed_and_share_change_the_curve(words, tmp_path):
    losses = {}
    for name, changes in {"one": {}, "seed": {"seed": 1}, "none": {"model__dropout": 0.0}}.items():
        assert cli.main(words(tmp_path / name, "gpt2", **changes)) == 0
        losses[name] = [record["loss"] for record in curve(tmp_path / name) if "loss" in record]
    assert len({tuple(curve) for curve in losses.values()}) == 3


@pytest.mark.parametrize("size", [1, 4])
def test_the_micro_batch_changes_only_rounding(words, tmp_path, size):
    runs = {"two": {}, "other": {"training__micro_batch_size": size}}
    for name, changes in runs.items():
        assert cli.main(words(tmp_path / name, "gpt2", **changes)) == 0
    for one, other in zip(*(curve(tmp_path / name) for name in runs), strict=True):
        assert other == pytest.approx(one, rel=1e-4)


def test_a_tuned_model_with_dropout_repeats_and_resumes(words, tune_words, chats, text, tmp_path):
    """The usual way to dropout: a published GPT-2, whose config.json says 0.1."""
    assert cli.main(words(tmp_path / "base", "gpt2", training__steps=1)) == 0

    def tuning(out):
        flags = tune_words(out, training__checkpoint_every=2, training__steps=5)
        return [flags[0], str(tmp_path / "base" / "model"), *flags[2:]]

    before = global_states()
    assert cli.main(tuning(tmp_path / "one")) == 0
    assert global_states() == before
    run_killed_after(tuning(tmp_path / "two"), 3)
    assert cli.main(tuning(tmp_path / "two")) == 0
    assert curve(tmp_path / "one") == curve(tmp_path / "two")
    assert weights(tmp_path / "one") == weights(tmp_path / "two")


def test_seeds_depend_on_run_step_and_row_but_not_on_the_number_of_processes():
    whole = dropout_seeds(5, 7, 8)
    assert whole.tolist() == torch.cat([dropout_seeds(5, 7, 2, rank) for rank in range(4)]).tolist()
    others = [dropout_seeds(5, 8, 8), dropout_seeds(6, 7, 8)]
    assert len({seed for seeds in (whole, *others) for seed in seeds.tolist()}) == 24
