"""The shape of a new model: an architecture, its sizes, and the fields that differ from it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from camelid.base.errors import CamelidError
from camelid.model.architectures import Architecture, Traits, of_architecture
from camelid.model.presets import preset
from camelid.model.spec import Learned, ModelSpec, Norm, RelativeBuckets, Rotary, Window
from camelid.recipes.settings import Settings

POSITIONS: Mapping[str, Callable[[float], Rotary | Learned | RelativeBuckets]] = {
    "rotary": Rotary,
    "learned": lambda theta: Learned(),
    "relative": lambda theta: RelativeBuckets(),
}


class ModelShape(Settings):
    """The shape of a new model; the vocabulary size comes from the tokenizer."""

    architecture: Architecture = Field(default="llama", description="model family")
    preset: str | None = Field(
        default=None,
        description="name of a published model, in place of all sizes (see camelid models)",
    )
    hidden_size: int = Field(default=512, gt=0, description="width of the residual stream")
    num_layers: int = Field(default=8, gt=0, description="number of layers; with an encoder, in each stack")
    num_heads: int = Field(default=8, gt=0, description="query heads per layer")
    num_kv_heads: int | None = Field(
        default=None, gt=0, description="key and value heads; by default num_heads, and 1 in PaLM"
    )
    head_dim: int | None = Field(
        default=None, gt=0, description="width of a head; by default hidden_size / num_heads"
    )
    feed_forward_width: int | None = Field(
        default=None,
        gt=0,
        description="inner width of the feed-forward; by default 8/3 hidden_size, rounded up to a multiple "
        "of 32, "
        "in LLaMA and its relatives, else 4 hidden_size",
    )
    context_length: int = Field(
        default=512, gt=1, description="longest sequence that the model supports, in tokens"
    )
    rope_theta: float = Field(default=10_000.0, gt=0, description="base of the rotary frequencies")
    tie_embeddings: bool | None = Field(
        default=None,
        description="share input embedding and output projection; by default yes, except in T5 1.1",
    )
    norm: Literal["rms", "layer"] | None = Field(
        default=None, description="normalisation; by default that of the architecture"
    )
    feed_forward: Literal["swiglu", "geglu", "gelu", "exact_gelu", "relu"] | None = Field(
        default=None, description="kind of feed-forward; by default that of the architecture"
    )
    positions: Literal["rotary", "learned", "relative"] | None = Field(
        default=None, description="kind of positions; by default that of the architecture"
    )
    parallel: bool | None = Field(
        default=None,
        description="compute attention and feed-forward in parallel, as PaLM does, instead of in sequence",
    )
    window: int | None = Field(
        default=None,
        gt=0,
        description="size of the attention window, in tokens; applies to the layers that have one, else to "
        "all",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout probability in training")

    def spec(self, vocab_size: int) -> ModelSpec:
        """The spec for a vocabulary of this size; raises `CamelidError` if sizes contradict each other."""
        if self.preset is not None:
            return replace(preset(self.preset), vocab_size=vocab_size)
        plain = ModelSpec.llama(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            context_length=self.context_length,
            rope_theta=self.rope_theta,
            tie_embeddings=True,
        )
        spec = replace(of_architecture(self.architecture, plain), dropout=self.dropout)
        return replace(spec, **self._departures(spec))

    @property
    def has_encoder(self) -> bool:
        """Whether the model has an encoder."""
        return self.spec(vocab_size=1).encoder_layers > 0

    def _departures(self, spec: ModelSpec) -> Traits:
        """The fields that differ from the architecture."""
        feed_forward, window = spec.feed_forward, spec.window
        if self.feed_forward is not None:
            feed_forward = replace(feed_forward, kind=self.feed_forward)
        if self.feed_forward_width is not None:
            feed_forward = replace(feed_forward, width=self.feed_forward_width)
        if self.window is not None:
            window = Window(self.window) if window is None else replace(window, size=self.window)
        own: dict[str, Any] = {"feed_forward": feed_forward, "window": window}
        if self.num_kv_heads is not None:
            own["num_kv_heads"] = self.num_kv_heads
        if self.tie_embeddings is not None:
            own["tie_embeddings"] = self.tie_embeddings
        if self.norm is not None:
            own["norm"] = Norm(self.norm, spec.norm.eps, spec.norm.bias and self.norm == "layer")
        if self.positions is not None:
            own["positions"] = POSITIONS[self.positions](self.rope_theta)
        if self.parallel is not None:
            own |= {"parallel": self.parallel, "separate_norms": self.parallel and spec.separate_norms}
        return own

    @model_validator(mode="after")
    def _possible(self) -> Self:
        sizes = self.model_fields_set - {"preset", "context_length"}
        if self.preset is not None and sizes:
            raise ValueError(f"preset {self.preset} already sets {', '.join(sorted(sizes))}; remove these")
        try:
            self.spec(vocab_size=1)
        except CamelidError as error:
            raise ValueError(
                f"{error} (--model.hidden-size, --model.num-heads, --model.num-kv-heads)"
            ) from None
        return self
