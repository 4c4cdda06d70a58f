"""Engine settings, declared once for the flags of `generate`, `chat` and `eval`, recipes and Python."""

from typing import ClassVar, Literal

from pydantic import Field

from camelid.recipes.settings import Settings

Precision = Literal["stored", "float32", "bfloat16"]
CacheKind = Literal["whole", "8-bit"]
MarkerName = Literal["good", "bad"]


class EngineSettings(Settings):
    """How a model runs on this machine; a server behind a URL has its own settings."""

    flat: ClassVar[bool] = True

    device: str | None = Field(
        default=None, description="cpu, cuda or cuda:N; by default the GPU if there is one"
    )
    adapter: str | None = Field(
        default=None, description="folder of an adapter (LoRA) for this model, which is computed unmerged"
    )
    dtype: Precision = Field(
        default="stored", description="precision of the computation; stored: that of the weights"
    )
    cache: CacheKind = Field(
        default="whole",
        description="precision of the key-value cache; 8-bit halves its memory by rounding keys and values",
    )
    cache_tokens: int | None = Field(
        default=None,
        gt=0,
        description="capacity of the key-value cache, in tokens over all sequences; by default what fits "
        "into memory",
    )
    max_batch: int = Field(default=64, gt=0, description="most sequences in a batch")
    draft: str | None = Field(
        default=None,
        description="speculative decoding: a smaller draft model with the same vocabulary, or `prompt` to "
        "draft from "
        "the text so far",
    )
    draft_tokens: int | None = Field(default=None, gt=0, description="draft tokens per step")
    marker: MarkerName | None = Field(
        default=None,
        description="for models tuned with markers: ask for a good or a bad answer, in conversations",
    )
