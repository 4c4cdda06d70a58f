"""Recipes: saved and loaded they are equal, and every mistake is named with its place and its way out."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from camelid.base.errors import WrongCall
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.recipe import Settings, load_recipe, save_recipe
from camelid.recipes.table import RECIPES
from camelid.recipes.tokenizer import TokenizerRecipe
from camelid.recipes.training import Training
from camelid.recipes.tune import TuneRecipe
from camelid.recipes.yaml import dotted_keys

MINIMAL = {
    "out": "runs/a",
    "data.train": "text.txt",
    "tokenizer": "runs/tokenizer",
    "training.steps": 10,
}


@pytest.fixture
def recipe_file(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(cls=PretrainRecipe, path=None, **overrides) -> str:
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    with pytest.raises(WrongCall) as caught:
        load_recipe(cls, path, (MINIMAL if path is None else {}) | changes)
    return str(caught.value)


@given(
    st.fixed_dictionaries(
        {
            "training.learning_rate": st.floats(1e-9, 10),
            "training.betas": st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
            "training.schedule": st.sampled_from(["cosine", "linear", "wsd", "inverse_sqrt", "constant"]),
            "training.compile": st.sampled_from(["auto", True, False]),
            "data.train": st.lists(
                st.text(min_size=1).filter(lambda t: "\0" not in t), min_size=1, max_size=3
            ),
            "seed": st.integers(0, 2**40),
        }
    )
)
def test_what_is_saved_is_what_is_loaded(tmp_path_factory, changes):
    recipe = load_recipe(PretrainRecipe, None, MINIMAL | changes)
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    save_recipe(recipe, path)
    assert load_recipe(PretrainRecipe, path) == recipe


def test_yaml_holds_every_description(recipe_file):
    recipe = load_recipe(PretrainRecipe, None, MINIMAL)
    path = recipe_file("")
    save_recipe(recipe, path)
    for section in (PretrainRecipe, Training):
        for info in section.model_fields.values():
            assert f"# {info.description}\n" in path.read_text(encoding="utf-8")
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == recipe.model_dump(mode="json")


def test_flags_override_the_file_in_either_spelling(recipe_file):
    path = recipe_file("out: a\ntokenizer: t\ndata: {train: x}\ntraining: {steps: 5, learning_rate: 1e-3}\n")
    assert load_recipe(PretrainRecipe, path).training.learning_rate == 1e-3
    for key in ("training.learning-rate", "training.learning_rate"):
        assert load_recipe(PretrainRecipe, path, {key: "2e-4"}).training.learning_rate == 2e-4
    assert load_recipe(PretrainRecipe, path, {"training": {"steps": 7}}).training.steps == 7


def test_a_misspelt_key_is_named_with_file_line_and_nearest(recipe_file):
    path = recipe_file("out: a\ndata:\n  train: x\ntokenizer: t\ntraining:\n  steps: 3\n  learning_rat: 1\n")
    message = refusal(path=path)
    assert message.startswith(
        f"{path}:7: training.learning_rat: unknown key; nearest: training.learning_rate"
    )


def test_a_key_that_stands_twice_is_refused(recipe_file):
    path = recipe_file("out: a\nseed: 1\nseed: 2\n")
    assert refusal(path=path) == f"{path}:3: duplicate key seed (first in line 2); remove one of them"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "not YAML"),
        ("- 1\n- 2\n", "a recipe is a mapping"),
        ("just text", "a recipe is a mapping"),
        ("", "data.train is required; give --data.train"),
    ],
)
def test_what_is_no_recipe_is_refused(recipe_file, text, words):
    path = recipe_file(text)
    message = refusal(path=path)
    assert message.startswith(str(path))
    assert words in message


def test_a_binary_file_and_a_missing_one_are_refused(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in refusal(path=tmp_path / "binary.yaml")
    assert "no such recipe file" in refusal(path=tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training__learning_rate": -1}, ("greater than 0", "--training.learning-rate")),
        ({"training__gradient_clip": float("inf")}, ("finite", "--training.gradient-clip")),
        ({"model__num_heads": 7}, ("hidden_size 512", "num_heads 7", "--model.num-heads")),
        ({"model__num_kv_heads": 3}, ("num_kv_heads 3", "--model.num-kv-heads")),
        (
            {"training__context_length": 1024},
            ("exceeds model.context_length 512", "--model.context-length 1024"),
        ),
        ({"training__global_batch_tokens": 5000}, ("not a multiple", "--training.global-batch-tokens 5120")),
        (
            {"model__hidden_size": 2**70},
            ("hidden_size is", "the largest number allowed is 9223372036854775807"),
        ),
        ({"training__tokens": 100}, ("steps and tokens given", "--training.steps")),
        ({"training__warmup_steps": 11}, ("warmup_steps 11", "10 steps")),
        ({"training__betas": (0.9, 1.0)}, ("[0, 1)",)),
        ({"training__dtype": "fp8"}, ("'auto', 'bfloat16' or 'float32'",)),
        ({"data__train": []}, ("data.train",)),
        ({"stage": "tune"}, ("'pretrain'",)),
        ({"modle__num_heads": 4}, ("unknown key", "model")),
    ],
)
def test_the_impossible_is_refused_with_the_way_out(changes, words):
    message = refusal(**changes)
    for word in words:
        assert word in message


def test_every_mistake_is_named_at_once(recipe_file):
    path = recipe_file("out: a\ntraining:\n  stepz: 3\n  learning_rate: -3\n")
    message = refusal(path=path)
    for words in (
        "data.train is required",
        "tokenizer is required",
        ":3: training.stepz",
        ":4: training.learning_rate",
    ):
        assert words in message


def test_steps_and_tokens_are_two_ways_to_say_the_length():
    by_tokens = Training(tokens=100_000, global_batch_tokens=4096)
    assert by_tokens.total_steps == 25  # 24 steps see 98,304 tokens
    assert Training(steps=25, global_batch_tokens=4096).total_steps == by_tokens.total_steps
    assert Training(steps=200, warmup_fraction=0.1).total_warmup_steps == 20
    assert Training(steps=200, warmup_steps=7).total_warmup_steps == 7


@pytest.mark.parametrize("cls", RECIPES.values())
def test_every_setting_is_described_and_frozen(cls):
    def settings(model):
        yield model
        for info in model.model_fields.values():
            if isinstance(info.annotation, type) and issubclass(info.annotation, Settings):
                yield from settings(info.annotation)

    for section in settings(cls):
        assert section.model_config["frozen"]
        assert section.model_config["extra"] == "forbid"
        assert all(info.description for info in section.model_fields.values())
    assert len(set(dotted_keys(cls))) == len(dotted_keys(cls))


def test_sentinels_that_leave_no_room_are_refused_with_the_way_out():
    given = {"out": "a", "data.train": "x", "kind": "unigram", "sentinels": 100}
    assert load_recipe(TokenizerRecipe, None, given | {"vocab_size": 360}).sentinels == 100
    with pytest.raises(WrongCall, match="--vocab-size 360 or more"):
        load_recipe(TokenizerRecipe, None, given | {"vocab_size": 359})


def test_settings_that_change_no_result_are_marked():
    """The rows at once are not: several sizes give other sums, and so other weights."""
    training = ("validate_every", "checkpoint_every", "keep_checkpoints", "track")
    data, free = ["data.licence", "data.workers", "data.on"], [f"training.{name}" for name in training]
    free += [f"parallel.{name}" for name in ("data", "tensor", "timeout")]
    assert dotted_keys(PretrainRecipe, free=True) == [*data, *free]
    assert dotted_keys(TuneRecipe, free=True) == [*data, "show", *free, "licence"]


def test_another_length_replaces_that_of_the_file(tmp_path):
    path = tmp_path / "tune.yaml"
    path.write_text("stage: tune\nout: a\nmodel: m\ndata: {train: [a.jsonl]}\ntraining: {epochs: 3}\n")
    assert load_recipe(TuneRecipe, path).training.epochs == 3
    changed = load_recipe(TuneRecipe, path, {"training.steps": 5, "training.learning_rate": 1e-4}).training
    assert (changed.steps, changed.epochs) == (5, None)
    assert load_recipe(TuneRecipe, path).training.for_rows(100).steps == 3 * 100 * 512 // 16_384 + 1
