"""Recipes: frozen settings for everything that a stage does, written as YAML and overridden by flags.

    recipe = load_recipe(PretrainRecipe, Path("recipe.yaml"), {"training.learning_rate": 1e-3})

Unknown keys, values out of bounds and contradictory settings raise `WrongCall`, which names the file, the
line, the dotted key and the flag that fixes it. `load_recipe(save_recipe(r)) == r`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import Field, ValidationError

from camelid.base.atomic import write_text_atomically
from camelid.base.errors import WrongCall
from camelid.recipes.settings import Settings, SinglePath
from camelid.recipes.training import LENGTHS
from camelid.recipes.yaml import Source, explain, merge, nest, parse_yaml, to_yaml, with_sections


class Recipe(Settings):
    """The settings of one stage.

    stage: the verb. leading: fields that may be given as positional arguments, in this order; a last one that
    is a tuple takes all that remain.
    """

    leading: ClassVar[tuple[str, ...]] = ()

    stage: str = Field(description="the verb that this recipe is for")
    out: SinglePath = Field(description="run folder: a new one, or that of this run to resume it")


R = TypeVar("R", bound=Recipe)


def load_recipe(cls: type[R], path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> R:
    """The recipe in the YAML file at `path` (or an empty one), with `overrides` applied.

    `overrides` is nested or has dotted keys; `learning_rate` and `learning-rate` are the same. Raises
    `WrongCall` with file, line, key and the fix for anything that is not a valid recipe of this class.
    """
    source = Source() if path is None else parse_yaml(path)
    given = nest(overrides or {})
    try:
        return cls.model_validate(with_sections(cls, merge(_without_length(source.values, given), given)))
    except ValidationError as error:
        raise WrongCall(explain(error, cls, source, given)) from None


def _without_length(values: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of a file without the length of its training, if another one is given."""
    written, training = values.get("training"), given.get("training")
    if not isinstance(written, Mapping) or not isinstance(training, Mapping):
        return values
    if all(training.get(name) is None for name in LENGTHS):
        return values
    return {**values, "training": {name: each for name, each in written.items() if name not in LENGTHS}}


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Writes every setting as YAML, each with its description as a comment, atomically."""
    write_text_atomically(path, to_yaml(recipe))
