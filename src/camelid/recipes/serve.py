"""Settings of `camelid serve`."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from camelid.recipes.settings import Settings


class ServeSettings(Settings):
    """Where a server listens, and what it allows."""

    flat: ClassVar[bool] = True

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    adapter: tuple[str, ...] = Field(
        default=(),
        description="adapters (LoRA), each served beside its base under a name of its own: NAME=FOLDER",
    )
    memory: str | None = Field(
        default=None,
        description="memory for loaded models, such as 8GB; the least recently used are unloaded for others; "
        "by default what is free at the start",
    )
    allow_origin: tuple[str, ...] = Field(
        default=(), description="pages of other sites that may ask, such as https://chat.example.org"
    )
    keys: Path | None = Field(
        default=None,
        description="file of keys, one of which every request needs; must be given to listen beyond this "
        "machine",
    )
    new_key: str | None = Field(
        default=None, min_length=1, description="make a key of this name for the file of --keys, and end"
    )
    grace_seconds: float = Field(
        default=20.0, ge=0, description="seconds that running answers have to end after Ctrl-C or SIGTERM"
    )
