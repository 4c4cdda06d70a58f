"""From command-line words to a call: typed functions and recipes, parsed by tyro."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypedDict, Union, get_args, get_origin, get_type_hints

import tyro
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from camelid.base.errors import WrongCall
from camelid.recipes.recipe import Recipe, load_recipe
from camelid.recipes.yaml import merge, parse_yaml


def call(function: Callable[..., Any], *, prog: str, arguments: Sequence[str]) -> Any:
    """Calls `function` with what the words say; tyro prints help and mistakes and leaves with code 0 or 2."""
    recipe_class = _recipe_class(function)
    if recipe_class is not None:
        return function(parse_recipe(recipe_class, prog=prog, arguments=arguments))
    return tyro.cli(function, prog=prog, args=list(arguments), description=_description(function))


def parse_recipe(cls: type[Recipe], *, prog: str, arguments: Sequence[str]) -> Recipe:
    """The recipe of `[RECIPE.yaml|LEADING] --dotted.flag value ...`; flags override the file."""
    words = list(arguments)
    leading = words.pop(0) if words and not words[0].startswith("-") else None
    path, first = _first_word(cls, leading)
    written: Mapping[str, Any] = {} if path is None else parse_yaml(path).values
    about = f"{inspect.getdoc(cls)}\n\n{_usage(cls)}"
    flags = tyro.cli(_flags(cls, written), prog=prog, args=words, description=about)
    return load_recipe(cls, path, merge(first, flags))


def _recipe_class(function: Callable[..., Any]) -> type[Recipe] | None:
    hints = get_type_hints(function)
    kinds = [hints[name] for name in inspect.signature(function).parameters]
    if len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], Recipe):
        return kinds[0]
    return None


def _first_word(cls: type[Recipe], leading: str | None) -> tuple[Path | None, dict[str, Any]]:
    if leading is None:
        return None, {}
    if leading.endswith((".yaml", ".yml")):
        return Path(leading), {}
    if cls.leading is None:
        raise WrongCall(f"{leading!r}: only a recipe (.yaml) can stand here; everything else is a flag")
    return None, {cls.leading: leading}


def _flags(cls: type[BaseModel], written: Mapping[str, Any]) -> Any:
    """A `TypedDict` of a model's fields in which nothing is needed: what is not given stays out of the result."""
    fields: dict[str, Any] = {}
    for name, info in cls.model_fields.items():
        kind, value = info.annotation, written.get(name)
        if name == "stage":
            continue
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields[name] = _flags(kind, value if isinstance(value, Mapping) else {})
        else:
            about = tyro.conf.arg(
                help=info.description, help_behavior_hint=_hint(info, name in written, value)
            )
            fields[name] = Annotated[_in_words(kind), about]
    return TypedDict(cls.__name__, fields, total=False)  # type: ignore[operator]


def _in_words(kind: Any) -> Any:
    """`X | bool` as people write it: true and false are words beside the others."""
    options = get_args(kind) if isinstance(kind, UnionType) or get_origin(kind) is Union else ()
    if bool not in options:
        return kind
    return Union[(*(option for option in options if option is not bool), Literal["true", "false"])]


def _hint(info: FieldInfo, written: bool, value: object) -> str:
    if written:
        return f"(recipe: {value})"
    default = info.get_default(call_default_factory=True)
    return "(needed)" if info.is_required() else "" if default in (None, ()) else f"(default: {default})"


def _usage(cls: type[Recipe]) -> str:
    leading = "" if cls.leading is None else f", or the value of --{cls.leading}"
    return f"The first word may be a recipe (.yaml), which the flags override{leading}."


def _description(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").split("\n\n")[0]
