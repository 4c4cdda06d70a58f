"""Recipes as YAML: read with line numbers for error messages, written with descriptions as comments."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from camelid.base.errors import WrongCall, nearest
from camelid.recipes.settings import flag, is_flat, is_free

Nested = dict[str, Any]
BOOLEAN, TEXT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:str"


@dataclass(frozen=True)
class Source:
    """The values in a YAML file, and the line (from 1) of each dotted key."""

    path: Path | None = None
    values: Nested = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)

    def locate(self, key: str) -> str:
        """`file:line: ` of a dotted key or of the nearest section around it; empty without a file."""
        if self.path is None:
            return ""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return f"{self.path}:{self.lines[key]}: " if key else f"{self.path}: "


def parse_yaml(path: Path) -> Source:
    """The mapping in a YAML file; raises `WrongCall` if there is none or a key is repeated."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise WrongCall(f"{path}: no such recipe file") from None
    except UnicodeDecodeError as error:
        raise WrongCall(f"{path}: not UTF-8 text (byte {error.start}); a recipe is a YAML file") from None
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        _keep_words(root)
        values = None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}" if mark is None else f"{path}:{mark.line + 1}"
        raise WrongCall(f"{place}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if root is None:
        return Source(path)
    if not isinstance(values, dict):
        raise WrongCall(f"{path}: a recipe is a mapping of keys to values, found {type(values).__name__}")
    lines: dict[str, int] = {}
    for key, line in _keys(root):
        if key in lines:
            raise WrongCall(
                f"{path}:{line}: duplicate key {key} (first in line {lines[key]}); remove one of them"
            )
        lines[key] = line
    return Source(path, values, lines)


def _keep_words(node: yaml.Node | None) -> None:
    """Reads the key `on` as a word: YAML 1.1 makes true and false of on, off, yes and no."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag == BOOLEAN:
                key.tag = TEXT
            _keep_words(value)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _keep_words(each)


def _keys(node: yaml.Node, prefix: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            dotted = f"{prefix}{key.value}"
            yield dotted, key.start_mark.line + 1
            yield from _keys(value, f"{dotted}.")


def nest(flat: Mapping[str, Any]) -> Nested:
    """`{"training.learning-rate": 1}` -> `{"training": {"learning_rate": 1}}`; nested mappings stay."""
    nested: Nested = {}
    for key, value in flat.items():
        *sections, name = key.replace("-", "_").split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = merge(inner.get(name, {}), nest(value)) if isinstance(value, Mapping) else value
    return nested


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Nested:
    """`base` with the values of `over` taking precedence, section by section."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = (
            merge(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
        )
    return merged


def with_sections(cls: type[BaseModel], values: Mapping[str, Any]) -> Nested:
    """`values` with an empty mapping for every missing section, so that errors name each missing key."""
    sections: Nested = {
        name: {}
        for name, info in cls.model_fields.items()
        if info.is_required() and isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
    }
    return {**sections, **values}


def dotted_keys(cls: type[BaseModel], prefix: str = "", *, free: bool = False) -> list[str]:
    """Every key of a recipe class, dotted in its sections; with `free` only those that change no result."""
    keys = []
    for name, info in cls.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys += dotted_keys(info.annotation, f"{prefix}{name}.", free=free)
        elif is_free(info) or not free:
            keys.append(f"{prefix}{name}")
    return keys


def explain(error: ValidationError, cls: type[BaseModel], source: Source, given: Nested) -> str:
    """One line per mistake: its place, the key, what is allowed and the flag that fixes it."""
    lines = []
    for mistake in error.errors():
        parts = [str(part) for part in mistake["loc"] if isinstance(part, str)]
        key = ".".join(parts)
        option = flag(_flag_name(cls, parts))
        by_flag = _holds(given, parts) and mistake["type"] != "value_error"
        place = f"{option}: " if by_flag else source.locate(key)
        match mistake["type"]:
            case "extra_forbidden":
                hint = nearest(key, dotted_keys(cls), otherwise="allowed:")
                lines.append(f"{place}{key}: unknown key; {hint}")
            case "missing":
                lines.append(f"{source.locate(key)}{key} is required; give {option}")
            case "value_error":
                lines.append(f"{place}{mistake['ctx']['error']}")
            case _:
                way_out = "" if by_flag else f" (change it here or with {option})"
                lines.append(f"{place}{key} is {mistake['input']!r}; {_allowed(mistake['msg'])}{way_out}")
    return "\n".join(dict.fromkeys(lines))


def _flag_name(cls: type[BaseModel], parts: list[str]) -> str:
    """The dotted key as a flag: without the name of a flat section."""
    info = cls.model_fields.get(parts[0]) if len(parts) > 1 else None
    return ".".join(parts[1:] if info is not None and is_flat(info.annotation) else parts)


def _holds(nested: object, parts: list[str]) -> bool:
    for part in parts:
        if not isinstance(nested, Mapping) or part not in nested:
            return False
        nested = nested[part]
    return bool(parts)


def _allowed(message: str) -> str:
    return message.replace("Input should be", "it must be").replace("Value should", "it should")


def fields_in_order(cls: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields in reading order: stage and out, then those of the class itself, then inherited ones."""
    own = inspect.get_annotations(cls)
    fields = cls.model_fields
    names = sorted(fields, key=lambda name: 0 if name in ("stage", "out") else 1 if name in own else 2)
    return {name: fields[name] for name in names}


LINE_BREAKS = frozenset("\x85\u2028\u2029")


def to_yaml(model: BaseModel, indent: str = "") -> str:
    """The model as YAML: a comment with each field's description, then the field."""
    blocks = []
    values = model.model_dump(mode="json")
    for name, info in fields_in_order(type(model)).items():
        inner = getattr(model, name)
        comment = f"{indent}# {info.description}\n"
        if isinstance(inner, BaseModel):
            blocks.append(f"\n{comment}{indent}{_scalar(name)}:\n{to_yaml(inner, indent + '  ')}\n")
        else:
            blocks.append(f"{comment}{indent}{_scalar(name)}: {_scalar(values[name])}\n")
    return "".join(blocks).replace("\n\n\n", "\n\n").strip("\n") + ("\n" if not indent else "")


def _scalar(value: object) -> str:
    def dump(plain: bool) -> str:
        return yaml.safe_dump(value, default_flow_style=True, allow_unicode=plain, width=10_000)

    # YAML reads these as line breaks, but PyYAML does not escape them.
    text = dump(True)
    text = dump(False) if LINE_BREAKS.intersection(text) else text
    return text.removesuffix("...\n").strip("\n")
