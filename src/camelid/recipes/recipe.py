"""Recipes: small frozen values that say everything a stage does, written as YAML and overridden by flags.

    recipe = load_recipe(PretrainRecipe, Path("recipe.yaml"), {"training.learning_rate": 1e-3})

A key that no recipe has, a value out of bounds and a pair that can never work raise `WrongCall`, which names
the file, the line, the dotted key and the flag that mends it. `load_recipe(save_recipe(r)) == r`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import Field, ValidationError

from camelid.base.errors import WrongCall
from camelid.recipes.settings import Settings
from camelid.recipes.yaml import Source, explain, merge, nest, parse_yaml, to_yaml, with_sections


class Recipe(Settings):
    """Everything that one stage does.

    stage: the verb. leading: fields whose values may stand first on a command line, in this order; the last one takes
    all words that are left where it is a tuple.
    """

    leading: ClassVar[tuple[str, ...]] = ()

    stage: str = Field(description="the verb that this recipe is for")
    out: Path = Field(description="folder of the run: fresh, or this very run to resume it")


R = TypeVar("R", bound=Recipe)


def load_recipe(cls: type[R], path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> R:
    """The recipe in the YAML file at `path` (or an empty one) with `overrides` laid over it.

    `overrides` is nested or has dotted keys; `learning_rate` and `learning-rate` are the same. Raises `WrongCall`
    with file, line, key and the way out for whatever is no recipe of this class.
    """
    source = Source() if path is None else parse_yaml(path)
    given = nest(overrides or {})
    try:
        return cls.model_validate(with_sections(cls, merge(source.values, given)))
    except ValidationError as error:
        raise WrongCall(explain(error, cls, source, given)) from None


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write every setting as YAML, each with its description as a comment."""
    path.write_text(to_yaml(recipe), encoding="utf-8")
