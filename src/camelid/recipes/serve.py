"""Settings of `camelid serve`."""

from typing import ClassVar

from pydantic import Field

from camelid.recipes.settings import Settings


class ServeSettings(Settings):
    """Where a server listens, and what it allows."""

    flat: ClassVar[bool] = True

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    grace_seconds: float = Field(
        default=20.0, ge=0, description="seconds that running answers have to end after Ctrl-C or SIGTERM"
    )
