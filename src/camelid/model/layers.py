"""The layers of a Transformer block: linears, norms, feed-forward and attention.

Weights may be float32 masters while activations are bfloat16: every layer casts its weight to the dtype of
its input.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from camelid.model.attention import attention, biased_attention, causal_mask
from camelid.model.cache import LayerCache
from camelid.model.dropout import Seeds, Site, dropped
from camelid.model.linears import LinearKind
from camelid.model.lora import project
from camelid.model.rotary import rotate
from camelid.model.spec import ModelSpec, Norm

Readout = Callable[[Float[Tensor, "*batch width"], Float[Tensor, "vocab width"]], Tensor]
"""A function of hidden states and the output matrix: logits, or a loss that never holds all logits."""
KeysValues = tuple[Float[Tensor, "batch past kv_heads dim"], Float[Tensor, "batch past kv_heads dim"]]


class Linear(nn.Linear):
    """A linear layer that computes in the dtype of its input; its weights are 0 until they are set."""

    linear_kind: ClassVar[LinearKind] = "plain"

    def reset_parameters(self) -> None:
        """Zeros, where torch would draw from its global generator."""
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch outer"]:
        """x W^T + b."""
        bias = None if self.bias is None else self.bias.to(x.dtype)  # type: ignore[redundant-expr]
        return F.linear(x, self.weight.to(x.dtype), bias)


class OutputProjection(Linear):
    """The linear layer that turns hidden states into logits."""

    linear_kind: ClassVar[LinearKind] = "plain"

    def forward(self, x: Float[Tensor, "*batch width"], readout: Readout | None = None) -> Tensor:
        """Logits, or the result of `readout` on the states and the matrix.

        A bias is a column of the matrix for the readout, where all states are 1: [x, 1] [W, b]^T = x W^T + b.
        """
        if readout is None:
            return super().forward(x)
        if self.bias is None:
            return readout(x, self.weight)
        extended = torch.cat((x, x.new_ones(*x.shape[:-1], 1)), dim=-1)
        return readout(extended, torch.cat((self.weight, self.bias[:, None]), dim=1))


class Embedding(nn.Embedding):
    """A vector for each index; all are 0 until they are set."""

    def reset_parameters(self) -> None:
        """Zeros, where torch would draw from its global generator."""
        nn.init.zeros_(self.weight)


class TokenEmbedding(Embedding):
    """A vector for each token; in tied models (arXiv:1608.05859) the same table is the output projection."""

    def forward(self, x: Tensor, readout: Readout | None = None) -> Tensor:
        """The embeddings of token ids x, or the result of `readout` on hidden states x and the table."""
        return F.embedding(x, self.weight) if readout is None else readout(x, self.weight)


def logits(hidden: Float[Tensor, "*batch width"], weight: Float[Tensor, "vocab width"]) -> Tensor:
    """The readout that returns plain logits [*batch, vocab], in the states' dtype."""
    return F.linear(hidden, weight.to(hidden.dtype))


class RMSNorm(nn.Module):
    """gain * x / sqrt(mean(x^2) + eps), the mean in float32 (arXiv:1910.07467, eq. 4)."""

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = norm.eps

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """The normalised input in the input's dtype."""
        wide = x.float()
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (scaled * self.weight).to(x.dtype)


class LayerNorm(nn.Module):
    """gain * (x - mean(x)) / sqrt(variance(x) + eps) + bias, in float32 (arXiv:1607.06450, eq. 4)."""

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.ones(width)) if norm.gain else None
        self.bias = nn.Parameter(torch.zeros(width)) if norm.bias else None
        self.eps = norm.eps

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """The normalised input in the input's dtype."""
        gain = None if self.weight is None else self.weight.float()
        bias = None if self.bias is None else self.bias.float()
        return F.layer_norm(x.float(), (self.width,), gain, bias, self.eps).to(x.dtype)


def norm_layer(width: int, norm: Norm) -> RMSNorm | LayerNorm:
    """The normalisation layer for the spec's norm."""
    return RMSNorm(width, norm) if norm.kind == "rms" else LayerNorm(width, norm)


class FeedForwardBlock(nn.Module):
    """W_down (f(W_gate x) * W_up x), or W_down f(W_up x) without a gate (arXiv:2002.05202, section 2)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        linear = partial(Linear, bias=spec.feed_forward.bias)
        self.kind = spec.feed_forward.kind
        # T5 drops activations here too, GPT-2 does not.
        self.dropout = spec.dropout if spec.encoder_layers else 0.0
        if spec.feed_forward.gated:
            self.gate_proj = linear(spec.hidden_size, spec.feed_forward.width)
        self.up_proj = linear(spec.hidden_size, spec.feed_forward.width)
        self.down_proj = linear(spec.feed_forward.width, spec.hidden_size)

    def forward(
        self, x: Float[Tensor, "*batch width"], seeds: Seeds | None = None
    ) -> Float[Tensor, "*batch width"]:
        """The position-wise transformation; seeds: of dropout."""
        match self.kind:
            case "swiglu":
                inner = F.silu(project(self.gate_proj, x, seeds)) * project(self.up_proj, x, seeds)
            case "geglu":
                gate = F.gelu(project(self.gate_proj, x, seeds), approximate="tanh")
                inner = gate * project(self.up_proj, x, seeds)
            case "gelu":
                inner = F.gelu(project(self.up_proj, x, seeds), approximate="tanh")
            case "exact_gelu":
                inner = F.gelu(project(self.up_proj, x, seeds))
            case "relu":
                inner = F.relu(project(self.up_proj, x, seeds))
        return project(self.down_proj, dropped(inner, self.dropout, seeds, Site.INNER), seeds)


@dataclass
class Source:
    """An encoder's output for the source texts; decoding steps share the keys and values of each layer."""

    states: Float[Tensor, "batch source width"]
    mask: Bool[Tensor, "batch source"] | None = None
    """True at tokens, False at padding; None: no padding."""
    kept: dict[int, KeysValues] = field(default_factory=dict)


@dataclass
class Context:
    """The inputs of a layer in one forward pass besides the hidden states."""

    layer: int
    positions: Int[Tensor, "batch time"]
    cosine: Tensor | None = None
    sine: Tensor | None = None
    bias: Float[Tensor, "*batch heads time past"] | None = None
    """Relative position bias, added to the scores; with a cache, -inf where masked."""
    mask: Bool[Tensor, "batch time"] | None = None
    """In an encoder: True at tokens, False at padding."""
    documents: Int[Tensor, "batch time"] | None = None
    shared: Int[Tensor, "batch time"] | None = None
    """How many of its first tokens a token's document leaves out; see `camelid.model.attention.shared_keys`.
    """
    cache: LayerCache | None = None
    cache_mask: Float[Tensor, "batch 1 time past"] | None = None
    """Additive attention mask over the cache; None if queries attend only to the new keys."""
    source: Source | None = None
    seeds: Seeds | None = None
    """The layer's seeds of dropout; None: nothing is dropped."""


class Attention(nn.Module):
    """Self-attention over heads that may share keys and values (GQA, arXiv:2305.13245)."""

    def __init__(self, spec: ModelSpec, layer: int, *, causal: bool = True) -> None:
        super().__init__()
        self.head_dim, self.causal, self.dropout = spec.head_dim, causal, spec.dropout
        self.window = spec.window_of(layer) if causal else None
        linear = partial(Linear, bias=spec.attention_bias != "none")
        self.q_proj = linear(spec.hidden_size, spec.num_heads * spec.head_dim)
        self.k_proj = linear(spec.hidden_size, spec.num_kv_heads * spec.head_dim)
        self.v_proj = linear(spec.hidden_size, spec.num_kv_heads * spec.head_dim)
        self.o_proj = Linear(
            spec.num_heads * spec.head_dim, spec.hidden_size, bias=spec.attention_bias == "all"
        )
        if spec.query_key_norm:
            self.q_norm = RMSNorm(spec.head_dim, spec.norm)
            self.k_norm = RMSNorm(spec.head_dim, spec.norm)
        self.query_key_norm = spec.query_key_norm

    def forward(
        self, x: Float[Tensor, "batch time width"], context: Context
    ) -> Float[Tensor, "batch time width"]:
        """Attends from each position to those that it may see."""
        heads, seeds = (*x.shape[:2], -1, self.head_dim), context.seeds
        queries, keys = project(self.q_proj, x, seeds).view(heads), project(self.k_proj, x, seeds).view(heads)
        values = project(self.v_proj, x, seeds).view(heads)
        if self.query_key_norm:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        if context.cosine is not None and context.sine is not None:
            queries = rotate(queries, context.cosine, context.sine)
            keys = rotate(keys, context.cosine, context.sine)
        mixed = self.attend(queries, keys, values, context)
        return project(self.o_proj, mixed.flatten(2), context.seeds)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, context: Context) -> Tensor:
        """Attention over the preceding tokens and the token itself, or over the whole text in an encoder."""
        if context.cache is not None:
            context.cache.write(keys, values)
            if not context.cache.fresh:
                keys, values = context.cache.read()
        if context.bias is None:
            return attention(
                queries,
                keys,
                values,
                context.documents,
                context.cache_mask,
                shared=context.shared,
                window=self.window,
                dropout=self.dropout,
                seeds=context.seeds,
            )
        if not self.causal:
            mask = None if context.mask is None else context.mask[:, None, None]
        elif context.cache_mask is not None:
            mask = None  # included in the bias
        else:
            mask = causal_mask(queries.transpose(1, 2), context.documents)
        return biased_attention(queries, keys, values, context.bias, mask, self.dropout, context.seeds)


class CrossAttention(Attention):
    """A decoder's attention to the encoder's states, without positions (arXiv:1706.03762, section 3.2.3)."""

    def forward(
        self, x: Float[Tensor, "batch time width"], context: Context
    ) -> Float[Tensor, "batch time width"]:
        """Attends to the source text."""
        assert context.source is not None  # the Transformer checks it
        queries = project(self.q_proj, x, context.seeds).view(*x.shape[:2], -1, self.head_dim)
        # Training does not use the layer index: compiled code would be recompiled for every layer.
        training = torch.is_grad_enabled()
        keys, values = (
            self._project(context.source.states, context.seeds)
            if training
            else self.read(context.source, context.layer)
        )
        mask = None if context.source.mask is None else context.source.mask[:, None, None]
        mixed = biased_attention(
            queries, keys, values, None, mask, self.dropout, context.seeds, Site.CROSS_PROBABILITIES
        )
        return project(self.o_proj, mixed.flatten(2), context.seeds)

    def read(self, source: Source, layer: int) -> KeysValues:
        """The source's keys and values, computed once."""
        if layer not in source.kept:
            source.kept[layer] = self._project(source.states, None)
        return source.kept[layer]

    def _project(self, states: Tensor, seeds: Seeds | None) -> KeysValues:
        heads = (*states.shape[:2], -1, self.head_dim)
        keys, values = project(self.k_proj, states, seeds), project(self.v_proj, states, seeds)
        return keys.view(heads), values.view(heads)
