"""The one Transformer: training, prefill and decode are the same forward pass.

Weights may be float32 masters while activations run in bfloat16: every layer casts its weight to the dtype of
what it is given, so `dtype=` of the forward pass is the only precision switch.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from camelid.model.attention import attention
from camelid.model.cache import KeyValueCache
from camelid.model.rotary import inverse_frequencies, rotate, rotation
from camelid.model.spec import ModelSpec, Norm


class Linear(nn.Linear):
    """A linear layer that computes in the dtype of its input."""

    def forward(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch outer"]:
        """x W^T + b."""
        bias = None if self.bias is None else self.bias.to(x.dtype)  # type: ignore[redundant-expr]
        return F.linear(x, self.weight.to(x.dtype), bias)


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


class Attention(nn.Module):
    """Causal self-attention with rotary positions and shared key-value heads (GQA, arXiv:2305.13245)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        linear = partial(Linear, bias=spec.attention_bias)
        self.head_dim = spec.head_dim
        self.q_proj = linear(spec.hidden_size, spec.num_heads * spec.head_dim)
        self.k_proj = linear(spec.hidden_size, spec.num_kv_heads * spec.head_dim)
        self.v_proj = linear(spec.hidden_size, spec.num_kv_heads * spec.head_dim)
        self.o_proj = linear(spec.num_heads * spec.head_dim, spec.hidden_size)

    def forward(
        self, x: Float[Tensor, "batch time width"], context: "Context"
    ) -> Float[Tensor, "batch time width"]:
        """Mixes each position with those before it in its own document and in the cache."""
        heads = (*x.shape[:2], -1, self.head_dim)
        queries = rotate(self.q_proj(x).view(heads), context.cosine, context.sine)
        keys = rotate(self.k_proj(x).view(heads), context.cosine, context.sine)
        values = self.v_proj(x).view(heads)
        mixed = context.attend(queries, keys, values)
        return self.o_proj(mixed.flatten(2))  # type: ignore[no-any-return]


class FeedForwardBlock(nn.Module):
    """W_down (silu(W_gate x) * W_up x) (arXiv:2002.05202, eq. 6)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        linear = partial(Linear, bias=spec.mlp_bias)
        self.gate_proj = linear(spec.hidden_size, spec.feed_forward.width)
        self.up_proj = linear(spec.hidden_size, spec.feed_forward.width)
        self.down_proj = linear(spec.feed_forward.width, spec.hidden_size)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """The position-wise transformation."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm residual block: attention, then feed-forward."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(spec.hidden_size, spec.norm)
        self.self_attn = Attention(spec)
        self.post_attention_layernorm = RMSNorm(spec.hidden_size, spec.norm)
        self.mlp = FeedForwardBlock(spec)

    def forward(
        self, x: Float[Tensor, "batch time width"], context: "Context"
    ) -> Float[Tensor, "batch time width"]:
        """x plus what attention and feed-forward add."""
        x = x + self.self_attn(self.input_layernorm(x), context)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class Context:
    """What every layer of one forward pass shares: rotations, the document ids, the cache and the layer's turn."""

    def __init__(
        self,
        cosine: Tensor,
        sine: Tensor,
        documents: Int[Tensor, "batch time"] | None,
        positions: Int[Tensor, "batch time"],
        cache: KeyValueCache | None,
        layer: int,
    ) -> None:
        self.cosine, self.sine = cosine, sine
        self.documents, self.positions, self.cache, self.layer = documents, positions, cache, layer

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of the new queries over the cached and the new keys."""
        if self.cache is None:
            return attention(queries, keys, values, self.documents)
        past_keys, past_values = self.cache.extend(self.layer, self.positions, keys, values)
        return attention(queries, past_keys, past_values, query_positions=self.positions)


class Transformer(nn.Module):
    """A decoder-only language model as its `spec` describes it; parameter names are Hugging Face's.

    `forward` gives logits. The model knows tensors only: no optimiser, adapters, quantisation or environment inside.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embed_tokens = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.layers = nn.ModuleList(Block(spec) for _ in range(spec.num_layers))
        self.norm = RMSNorm(spec.hidden_size, spec.norm)
        self.lm_head = None if spec.tie_embeddings else Linear(spec.hidden_size, spec.vocab_size, bias=False)
        self.recompute_activations = False
        self.run_block: Callable[[nn.Module, Tensor, Context], Tensor] = _run_block

    @torch.no_grad()
    def initialize(self, seed: int, std: float | None = None) -> "Transformer":
        """Normal weights, those that write to the residual stream scaled by 1/sqrt(2 layers) (GPT-2, section 2.3).

        std: by default sqrt(2 / (5 width)) (Nguyen and Salazar 2019, arXiv:1910.05895, section 2.2), which is GPT-2's
        0.02 at width 1,000 and lets narrow models learn where to look sooner.
        """
        std = (2 / (5 * self.spec.hidden_size)) ** 0.5 if std is None else std
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif name.endswith("bias"):
                parameter.zero_()
            else:
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = std / (2 * self.spec.num_layers) ** 0.5 if residual else std
                parameter.normal_(0.0, scale, generator=generator)
        return self

    def hidden_states(
        self,
        tokens: Int[Tensor, "batch time"],
        *,
        positions: Int[Tensor, "batch time"] | None = None,
        documents: Int[Tensor, "batch time"] | None = None,
        cache: KeyValueCache | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "batch time width"]:
        """The normalised states before the output projection.

        documents: id of each token's document; attention does not cross from one id to another. positions: rotary
        positions, by default 0, 1, ... or what follows the cache. dtype: of the activations, by default the weights'.
        """
        x = F.embedding(tokens, self.embed_tokens.weight)
        x = x if dtype is None else x.to(dtype)
        if positions is None:
            steps = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
            positions = steps if cache is None else cache.positions(tokens.shape[1])
        frequencies = inverse_frequencies(self.spec.positions, self.spec.head_dim, x.device)
        cosine, sine = rotation(positions, frequencies)
        for index, block in enumerate(self.layers):
            context = Context(cosine, sine, documents, positions, cache, index)
            if self.recompute_activations and torch.is_grad_enabled():
                x = checkpoint(self.run_block, block, x, context, use_reentrant=False)
            else:
                x = self.run_block(block, x, context)
        if cache is not None:
            cache.advance(tokens.shape[1])
        return self.norm(x)  # type: ignore[no-any-return]

    def output_weight(self) -> Float[Tensor, "vocab width"]:
        """The matrix that turns hidden states into logits."""
        return self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def unembed(self, hidden: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch vocab"]:
        """Logits of hidden states, in their dtype."""
        if self.lm_head is None:
            return F.linear(hidden, self.embed_tokens.weight.to(hidden.dtype))
        return self.lm_head(hidden)  # type: ignore[no-any-return]

    def forward(
        self,
        tokens: Int[Tensor, "batch time"],
        *,
        positions: Int[Tensor, "batch time"] | None = None,
        documents: Int[Tensor, "batch time"] | None = None,
        cache: KeyValueCache | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "batch time vocab"]:
        """Logits of the next token at every position; the arguments are those of `hidden_states`."""
        hidden = self.hidden_states(
            tokens, positions=positions, documents=documents, cache=cache, dtype=dtype
        )
        return self.unembed(hidden)


def _run_block(block: nn.Module, x: Tensor, context: Context) -> Tensor:
    return block(x, context)  # type: ignore[no-any-return]
