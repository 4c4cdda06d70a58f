"""Parses a command line into a call, with tyro: typed functions, recipes and shared groups of settings.

A verb is a function of `camelid.cli`. Its parameters are its flags; a parameter that is a recipe,
`EngineSettings` or `Sampling` is expanded into one flag for each of its fields, which are declared only in
that class.
"""

import ast
import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypedDict, Union, get_args, get_origin, get_type_hints

import tyro
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from camelid.base.errors import WrongCall
from camelid.recipes.recipe import Recipe, load_recipe
from camelid.recipes.settings import flag, is_flat, only_in_file
from camelid.recipes.yaml import Source, explain, fields_in_order, merge, parse_yaml


def _schema(file_or_json: str | None) -> str | None:
    """The JSON of a schema: the argument itself if it begins with a brace, else the content of that file."""
    if file_or_json is None or file_or_json.lstrip().startswith("{"):
        return file_or_json
    try:
        return Path(file_or_json).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongCall(
            f"--json-schema {file_or_json}: neither a JSON object nor a readable file: {error}"
        ) from error


AS_FLAG: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "json_schema": (str | None, _schema),
    "logit_bias": (dict[int, float], dict),
}
"""Fields with a simpler type on the command line than in Python: the flag's type, and its conversion to a
value."""


REGISTRY = ConstructorRegistry()
"""How tyro builds paths: as usual, except that they cannot be empty."""


@REGISTRY.primitive_rule
def _path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    def parse(words: list[str]) -> Path:
        if not words[0]:  # it would be the current folder, and comes of a variable that is not set
            raise ValueError("the path is empty")
        return Path(words[0])

    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


@dataclass(frozen=True)
class Group:
    """Marks a parameter whose class is expanded into flags: fields to leave out, and defaults to replace."""

    leave_out: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)


def call(function: Callable[..., Any], *, prog: str, arguments: Sequence[str]) -> Any:
    """Parses the arguments and calls `function`; for help and wrong arguments tyro prints and exits with 0 or
    2."""
    recipe_class = _recipe_class(function)
    if recipe_class is not None:
        return function(parse_recipe(recipe_class, prog=prog, arguments=arguments))
    about = _description(function)
    return tyro.cli(
        _expanded(function), prog=prog, args=list(arguments), description=about, registry=REGISTRY
    )


def parse_recipe(cls: type[Recipe], *, prog: str, arguments: Sequence[str]) -> Recipe:
    """The recipe of `[RECIPE.yaml|VALUE ...] --dotted.flag value ...`; flags override the file."""
    loose, words = _split_arguments(cls, arguments)
    path, first = _leading(cls, loose)
    written: Mapping[str, Any] = {} if path is None else parse_yaml(path).values
    about = f"{inspect.getdoc(cls)}\n\n{_usage(cls)}"
    flags = tyro.cli(_flags(cls, written), prog=prog, args=words, description=about, registry=REGISTRY)
    return load_recipe(cls, path, merge(first, flags))


def _recipe_class(function: Callable[..., Any]) -> type[Recipe] | None:
    hints = get_type_hints(function)
    kinds = [hints[name] for name in inspect.signature(function).parameters]
    if len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], Recipe):
        return kinds[0]
    return None


def _leading(cls: type[Recipe], words: Sequence[str]) -> tuple[Path | None, dict[str, Any]]:
    """The recipe file that is given without a flag, or the values of the leading fields."""
    if words and words[0].endswith((".yaml", ".yml")):
        if len(words) > 1:
            raise WrongCall(f"{words[1]!r}: after a recipe file only flags can follow")
        return Path(words[0]), {}
    if words and not cls.leading:
        raise WrongCall(
            f"{words[0]!r}: only a recipe file (.yaml) can be given without a flag; see --help for the flags"
        )
    values: dict[str, Any] = {}
    rest = list(words)
    for name in cls.leading:
        if get_origin(cls.model_fields[name].annotation) is tuple and rest:
            values[name], rest = tuple(rest), []
        elif rest:
            values[name] = rest.pop(0)
    if rest:
        named = " ".join(name.upper() for name in cls.leading)
        raise WrongCall(f"{rest[0]!r}: one argument too many; those without a flag are {named}")
    return None, values


def _split_arguments(cls: type[Recipe], words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments without a flag, and the flags with their values; repeated list flags are joined.

    `m --bits 3 out` becomes `m out` and `--bits 3`; `--task a --task b` becomes `--task a b`; `--chat true`
    becomes `--chat`, and `--chat false` becomes `--no-chat`.
    """
    counts = _value_counts(cls)
    loose, flags, lists = list[str](), list[str](), dict[str, list[str]]()
    waiting = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-"):
            loose.append(word)
            continue
        name = word.replace("_", "-")
        count, is_list = counts.get(name, (None, False))
        end = next((at for at, each in enumerate(waiting) if each.startswith("--")), len(waiting))
        end = end if count is None else min(end, count)
        values, waiting = waiting[:end], waiting[end:]
        if _negated(name) in counts and waiting[:1] in (["true"], ["false"]):
            word = name if waiting.pop(0) == "true" else _negated(name)
        if is_list:
            lists.setdefault(name, []).extend(values)
        else:
            flags += [word, *values]
    return loose, [*flags, *(word for option, values in lists.items() for word in (option, *values))]


def _value_counts(cls: type[BaseModel], prefix: str = "") -> dict[str, tuple[int | None, bool]]:
    """For each flag how many values it takes, None for any number, and whether they make a list."""
    counts: dict[str, tuple[int | None, bool]] = {"-h": (0, False), "--help": (0, False)}
    for name, info in cls.model_fields.items():
        kind, path = info.annotation, prefix + name
        extra = info.json_schema_extra
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            counts |= _value_counts(kind, prefix if is_flat(kind) else f"{path}.")
        elif kind is bool:
            counts |= {flag(path): (0, False), _negated(flag(path)): (0, False)}
        elif get_origin(kind) is not tuple:
            counts[flag(path)] = (1, False)
        elif ... not in get_args(kind):
            counts[flag(path)] = (len(get_args(kind)), False)
        else:
            counts[flag(path)] = (1 if isinstance(extra, dict) and extra.get("repeated") else None, True)
    return counts


def _negated(option: str) -> str:
    """`--data.no-shuffle` for `--data.shuffle`."""
    group, dot, name = option.removeprefix("--").rpartition(".")
    return f"--{group}{dot}no-{name}"


def _flags(cls: type[BaseModel], written: Mapping[str, Any], leave_out: Sequence[str] = ("stage",)) -> Any:
    """A `TypedDict` of a model's fields, all optional: flags that are not given are missing from the
    result."""
    fields: dict[str, Any] = {}
    for name, info in fields_in_order(cls).items():
        kind, value = info.annotation, written.get(name)
        if name in leave_out or only_in_file(info):
            continue
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            inner = _flags(kind, value if isinstance(value, Mapping) else {})
            fields[name] = Annotated[inner, tyro.conf.arg(name="")] if is_flat(kind) else inner
        else:
            about = tyro.conf.arg(
                help=info.description,
                help_behavior_hint=_hint(info, name in written, value),
                metavar=_metavar(kind),
            )
            fields[name] = Annotated[_flag_type(kind), about]
    return TypedDict(cls.__name__, fields, total=False)  # type: ignore[operator]


def _flag_type(kind: Any) -> Any:
    """The flag's type; in `X | bool`, the booleans become the words true and false."""
    options = get_args(kind) if isinstance(kind, UnionType) or get_origin(kind) is Union else ()
    if bool not in options:
        return kind
    return Union[(*(option for option in options if option is not bool), Literal["true", "false"])]


def _metavar(kind: Any) -> str | None:
    """What a flag takes, as help shows it, without the None of `X | None`; None where tyro's own word
    stands."""
    options = [each for each in get_args(kind) if each is not NoneType]
    if get_origin(kind) in (UnionType, Union) and len(options) < len(get_args(kind)):
        shown = ["{true,false}" if each is bool else _metavar(each) for each in options]
        return "|".join(each for each in shown if each) if all(shown) else None
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, options)) + "}"
    if get_origin(kind) is tuple and ... in get_args(kind):
        inner = _metavar(get_args(kind)[0])
        return inner and f"{inner} ..."
    return {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}.get(kind)


def _hint(info: FieldInfo, written: bool, value: object) -> str:
    if written:
        return f"(recipe: {value})"
    default = info.get_default(call_default_factory=True)
    return "(required)" if info.is_required() else "" if default in (None, ()) else f"(default: {default})"


def _usage(cls: type[Recipe]) -> str:
    named = " and ".join(map(flag, cls.leading))
    leading = f", or the value of {named}" if cls.leading else ""
    return f"The first argument may be a recipe file (.yaml), which the flags override{leading}."


def _description(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").split("\n\n")[0]


def _expanded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as tyro takes it: parameters marked as a `Group` are parsed from flags and built from the
    result."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, type] = {}
    parameters = []
    for name, parameter in inspect.signature(function).parameters.items():
        kind, *marks = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        group = next((mark for mark in marks if isinstance(mark, Group)), None)
        if group is not None:
            groups[name] = kind
            is_model = issubclass(kind, BaseModel)
            flags = _flags(kind, {}, group.leave_out) if is_model else _class_flags(kind, group)
            hints[name] = Annotated[flags, tyro.conf.arg(name="")]
            parameter = parameter.replace(default=inspect.Parameter.empty)
        elif kind is not bool:
            positional = tyro.conf.Positional in marks
            several = " ..." if get_origin(kind) is tuple else ""
            shown = name.upper() + several if positional else _metavar(kind)
            hint = "" if parameter.default in (None, ()) else None
            about = tyro.conf.arg(metavar=shown, help_behavior_hint=hint)
            hints[name] = Annotated[(kind, *marks, about)]
        parameters.append(parameter.replace(annotation=hints[name]))

    @functools.wraps(function)
    def verb(**values: Any) -> Any:
        return function(
            **{
                name: _as_group(groups[name], value) if name in groups else value
                for name, value in values.items()
            }
        )

    del verb.__wrapped__
    verb.__annotations__ = hints
    needed_first = sorted(parameters, key=lambda each: each.default is not inspect.Parameter.empty)
    verb.__signature__ = inspect.Signature(needed_first)  # type: ignore[attr-defined]
    return verb


def _as_group(cls: type, values: Any) -> Any:
    given = dict(values) if isinstance(values, Mapping) else vars(values)
    given = {name: AS_FLAG[name][1](value) if name in AS_FLAG else value for name, value in given.items()}
    try:
        return cls(**given)
    except ValidationError as error:
        raise WrongCall(explain(error, cls, Source(), given)) from None


def _class_flags(cls: type, group: Group) -> Any:
    """A dataclass with another's fields; the docstring below each field becomes its help."""
    hints, about = get_type_hints(cls), _field_docstrings(cls)
    fields = []
    for each in dataclasses.fields(cls):
        if each.name in group.leave_out:
            continue
        plain, _ = AS_FLAG.get(each.name, (hints[each.name], None))
        default = group.defaults.get(each.name, each.default)
        hint = "" if default in (None, ()) else None
        described = tyro.conf.arg(help=about[each.name], metavar=_metavar(plain), help_behavior_hint=hint)
        kind: Any = Annotated[(plain, described)]
        empty = get_origin(plain) is dict
        fields.append((each.name, kind, field(default_factory=dict) if empty else field(default=default)))
    return dataclasses.make_dataclass(cls.__name__, fields)


def _field_docstrings(cls: type) -> dict[str, str]:
    [node] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef)
    return {
        before.target.id: _as_help(after.value.value)
        for before, after in zip(node.body, node.body[1:], strict=False)
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(after.value.value, str)
    }


def _as_help(sentence: str) -> str:
    """A sentence as help has it: without its full stop and its capital, unless that begins an
    abbreviation."""
    begins = sentence[:1] if sentence[1:2].isupper() else sentence[:1].lower()
    return begins + sentence[1:].rstrip(".")
