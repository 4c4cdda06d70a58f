"""What every group of a recipe's settings is."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Settings(BaseModel):
    """A frozen group of settings; a key that it does not have is refused, and a number that is not finite.

    flat: whether its fields are flags without the group's name in front, wherever it stands on a command line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    flat: ClassVar[bool] = False


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str | Path) else value


ModelName = Annotated[str, BeforeValidator(_as_text)]
"""A checkpoint folder or a name on the hub."""
Paths = Annotated[tuple[Path, ...], BeforeValidator(_as_tuple)]
"""Files or folders; one of them may be given without a list around it."""
