"""The blocks of a Transformer: pre-norm residual, or PaLM's parallel one."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from camelid.model.dropout import Site, dropped
from camelid.model.layers import Attention, Context, CrossAttention, FeedForwardBlock, norm_layer
from camelid.model.spec import ModelSpec

SubLayer = Callable[[Tensor, Context], Tensor]
"""Maps hidden states and their context to new hidden states."""


class Block(nn.Module):
    """Pre-norm residual block: self-attention, cross-attention if there is an encoder, feed-forward."""

    def __init__(self, spec: ModelSpec, layer: int, *, encoder: bool = False) -> None:
        super().__init__()
        self.dropout = spec.dropout
        self.input_layernorm = norm_layer(spec.hidden_size, spec.norm)
        self.self_attn = Attention(spec, layer, causal=not encoder)
        self.crosses = bool(spec.encoder_layers) and not encoder
        if self.crosses:
            self.cross_attn_layernorm = norm_layer(spec.hidden_size, spec.norm)
            self.cross_attn = CrossAttention(spec, layer)
        self.post_attention_layernorm = norm_layer(spec.hidden_size, spec.norm)
        self.mlp = FeedForwardBlock(spec)

    def forward(
        self, x: Float[Tensor, "batch time width"], context: Context
    ) -> Float[Tensor, "batch time width"]:
        """x plus the output of each sub-layer."""
        for sub_layer in self.sub_layers().values():
            x = sub_layer(x, context)
        return x

    def sub_layers(self) -> dict[str, SubLayer]:
        """The sub-layers in order, by the name of the module that computes each."""
        crossing = {"cross_attn": self._cross} if self.crosses else {}
        return {"self_attn": self._attend, **crossing, "mlp": self._feed_forward}

    def _attend(self, x: Tensor, context: Context) -> Tensor:
        added = self.self_attn(self.input_layernorm(x), context)
        return x + dropped(added, self.dropout, context.seeds, Site.ATTENTION)

    def _cross(self, x: Tensor, context: Context) -> Tensor:
        added = self.cross_attn(self.cross_attn_layernorm(x), context)
        return x + dropped(added, self.dropout, context.seeds, Site.CROSS_ATTENTION)

    def _feed_forward(self, x: Tensor, context: Context) -> Tensor:
        added = self.mlp(self.post_attention_layernorm(x), context.seeds)
        return x + dropped(added, self.dropout, context.seeds, Site.FEED_FORWARD)


class ParallelBlock(nn.Module):
    """x + attention(norm(x)) + feed-forward(norm(x)), with one norm for both (PaLM, arXiv:2204.02311, section
    2) or one each (GPT-NeoX, arXiv:2204.06745, section 2.1).
    """

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        self.dropout = spec.dropout
        self.input_layernorm = norm_layer(spec.hidden_size, spec.norm)
        self.self_attn = Attention(spec, layer)
        self.separate_norms = spec.separate_norms
        if spec.separate_norms:
            self.post_attention_layernorm = norm_layer(spec.hidden_size, spec.norm)
        self.mlp = FeedForwardBlock(spec)

    def forward(
        self, x: Float[Tensor, "batch time width"], context: Context
    ) -> Float[Tensor, "batch time width"]:
        """x plus the outputs of both."""
        normalised = self.input_layernorm(x)
        inner = self.post_attention_layernorm(x) if self.separate_norms else normalised
        added = self.self_attn(normalised, context) + self.mlp(inner, context.seeds)
        return x + dropped(added, self.dropout, context.seeds, Site.FEED_FORWARD)

    def sub_layers(self) -> dict[str, SubLayer]:
        """The whole block under an empty name, because its modules read the same states."""
        return {"": self}
