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
    max_requests: int = Field(
        default=256, gt=0, description="requests that are answered or wait at a time; further ones get 429"
    )
    max_of_one: int = Field(default=64, gt=0, description="the same with one key, or from one address")
    rate: int | None = Field(
        default=None, gt=0, description="requests a minute with one key, or from one address"
    )
    max_tokens: int | None = Field(
        default=None, gt=0, description="most tokens of an answer; by default what the context holds"
    )
    log: Path | None = Field(
        default=None,
        description="file to append a line of JSON to for each request; by default standard error",
    )
    log_prompts: bool = Field(default=False, description="log what is asked, too")
    grace_seconds: float = Field(
        default=20.0, ge=0, description="seconds that running answers have to end after Ctrl-C or SIGTERM"
    )
