"""The base class of all groups of settings, and the types that they share."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

LARGEST = 2**63 - 1
"""The largest number that torch and numpy take, in 64 bits."""
FREE: JsonDict = {"free": True}
"""Marks a field that changes no result, as `json_schema_extra`: a run resumes with another value of it."""
ONLY_IN_FILE: JsonDict = {"only_in_file": True}
"""Marks a field that a recipe file can set and no flag, as `json_schema_extra`."""


class Settings(BaseModel):
    """A frozen group of settings that rejects unknown keys and numbers that are not finite.

    flat: whether the flags of its fields go without the group's name as a prefix.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    flat: ClassVar[bool] = False

    @model_validator(mode="after")
    def _numbers_in_range(self) -> Self:
        for name, value in self:
            if isinstance(value, int) and abs(value) > LARGEST:
                raise ValueError(f"{name} is {value}; the largest number allowed is {LARGEST}")
        return self


def flag(name: str) -> str:
    """A field's name, dotted inside a section, as its flag: `--training.learning-rate`."""
    return f"--{name.replace('_', '-')}"


def is_free(info: FieldInfo) -> bool:
    """Whether a field is marked as `FREE`."""
    extra = info.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("free"))


def only_in_file(info: FieldInfo) -> bool:
    """Whether a field is marked as `ONLY_IN_FILE`."""
    extra = info.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("only_in_file"))


def is_flat(kind: object) -> bool:
    """Whether a field's type is a group whose flags go without the group's name as a prefix."""
    return isinstance(kind, type) and issubclass(kind, Settings) and kind.flat


def _not_empty(value: Any) -> Any:
    # As a path, "" would be the current folder; it comes of variables that are not set.
    if isinstance(value, str) and not value:
        raise ValueError("an empty path or name; give a folder or a file")
    return value


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, Path) else _not_empty(value)


def _as_tuple(value: Any) -> Any:
    paths = (value,) if isinstance(value, str | Path) else value
    return tuple(map(_not_empty, paths)) if isinstance(paths, list | tuple) else paths


def cluster_field(what: str) -> Any:
    """The field for a Ray cluster that does some work; it changes no result."""
    return Field(
        default=None,
        min_length=1,
        description=f"{what} on a Ray cluster: local, ray://HOST:10001, or HOST:6379 of its head",
        json_schema_extra=FREE,
    )


ModelName = Annotated[str, BeforeValidator(_as_text)]
"""A checkpoint folder or a hub name."""
SinglePath = Annotated[Path, BeforeValidator(_not_empty)]
"""A file or folder."""
Paths = Annotated[tuple[Path, ...], BeforeValidator(_as_tuple)]
"""Files or folders; a single one needs no list."""
