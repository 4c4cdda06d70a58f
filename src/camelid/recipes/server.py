"""Settings for a model behind a URL, declared once for the flags of `generate`, `chat` and `eval` and for
recipes."""

from typing import ClassVar

from pydantic import Field

from camelid.recipes.settings import Settings


class ServerSettings(Settings):
    """How an OpenAI-compatible server is asked, for models that are URLs."""

    flat: ClassVar[bool] = True

    model_name: str | None = Field(
        default=None, min_length=1, description="for a URL: the model on the server, where it has several"
    )
    parallel: int = Field(default=16, gt=0, description="for a URL: requests at a time")
    timeout: float = Field(default=600.0, gt=0, description="for a URL: seconds to wait for a response")
    retries: int = Field(
        default=6,
        ge=0,
        description="for a URL: repetitions of a request to a busy server or a refused connection",
    )
    longest_wait: float = Field(
        default=120.0,
        ge=0,
        description="for a URL: most seconds to wait before a repetition, as a server asks",
    )
