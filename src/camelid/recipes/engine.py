"""How a model runs here: declared once for the flags of `generate`, `chat` and `eval`, for recipes and for Python."""

from typing import ClassVar, Literal

from pydantic import Field

from camelid.recipes.settings import Settings

Precision = Literal["stored", "float32", "bfloat16"]
CacheKind = Literal["whole", "8-bit"]


class EngineSettings(Settings):
    """How a model runs on this machine; a server behind a URL has settings of its own."""

    flat: ClassVar[bool] = True

    device: str | None = Field(
        default=None, description="cpu, cuda or cuda:N; left out: a GPU where there is one"
    )
    dtype: Precision = Field(
        default="stored", description="precision to compute in; stored: the weights' own"
    )
    cache: CacheKind = Field(
        default="whole",
        description="8-bit rounds keys and values, so that half the memory holds as many tokens",
    )
    cache_tokens: int | None = Field(
        default=None,
        gt=0,
        description="tokens of all sequences that the cache holds; left out: what fits into memory",
    )
    max_batch: int = Field(default=64, gt=0, description="sequences that run at once")
    draft: str | None = Field(
        default=None,
        description="a smaller model of the same vocabulary whose guesses save steps, or `prompt`: what the text itself holds",
    )
    guesses: int | None = Field(default=None, gt=0, description="tokens that the draft guesses at a time")
