"""Every recipe in recipes/ is valid, says why, and can be run by somebody who has put their own files in
place."""

import re
from pathlib import Path

import pytest
import yaml

from camelid.recipes.data import TextData
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.recipe import load_recipe, save_recipe
from camelid.recipes.table import RECIPES
from camelid.recipes.yaml import fields_in_order

FOLDER = Path(__file__).resolve().parents[2] / "recipes"
FILES = sorted(FOLDER.rglob("*.yaml"))


def stage_of(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))["stage"]


def test_there_are_recipes_for_every_stage_that_takes_one():
    assert {stage_of(path) for path in FILES} == set(RECIPES)
    assert [path.name for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".yaml"] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_recipe_is_valid_and_survives_saving(path, tmp_path):
    stage = stage_of(path)
    of_an_assistant = path.parent.name in ("published", "small")
    assert of_an_assistant or path.name.startswith(f"{stage.replace(' ', '-')}-")
    recipe = load_recipe(RECIPES[stage], path)
    save_recipe(recipe, tmp_path / "saved.yaml")
    assert load_recipe(RECIPES[stage], tmp_path / "saved.yaml") == recipe


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_its_keys_stand_in_the_order_of_a_saved_recipe(path):
    def in_order(cls, values):
        known = list(fields_in_order(cls))
        assert list(values) == [key for key in known if key in values]
        for key, value in values.items():
            if isinstance(value, dict):
                in_order(cls.model_fields[key].annotation, value)

    in_order(RECIPES[stage_of(path)], yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_its_paths_are_relative_and_its_commands_name_it(path):
    text = path.read_text(encoding="utf-8")
    recipe = load_recipe(RECIPES[stage_of(path)], path)
    data = getattr(recipe, "data", None)
    places = [recipe.out, *(data.paths if isinstance(data, TextData) else ())]
    places += [path for name in ("text", "calibration", "prompts") for path in getattr(recipe, name, ())]
    assert not any(place.is_absolute() or ".." in place.parts for place in places)
    assert recipe.out.parts[0] == "runs"
    assert f"camelid {recipe.stage} recipes/{path.relative_to(FOLDER)}" in text


@pytest.mark.parametrize(
    ("name", "vocab_size"), [("pretrain-children-4m.yaml", 4096), ("pretrain-33m.yaml", 8192)]
)
def test_the_sizes_in_its_words_are_those_of_the_model(name, vocab_size):
    path = FOLDER / name
    said = float(re.search(r"([\d.]+) M parameters", path.read_text(encoding="utf-8"))[1])
    recipe = load_recipe(PretrainRecipe, path)
    parameters = recipe.model.spec(vocab_size).parameter_count()
    assert said == round(parameters / 1e6, 1)
    assert recipe.training.tokens == pytest.approx(20 * parameters, rel=0.01)
