"""The Transformer: one forward pass for training, prefill and decode, with or without an encoder.

`dtype=` of the forward pass is the only precision switch: it sets that of activations; weights keep theirs.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from camelid.model.attention import past_mask
from camelid.model.blocks import Block, ParallelBlock
from camelid.model.cache import KeyValueCache
from camelid.model.dropout import ENCODER, Seeds, Site, derived_seeds, dropped, required_seeds
from camelid.model.initialize import initialize
from camelid.model.layers import (
    Context,
    Embedding,
    OutputProjection,
    Readout,
    Source,
    TokenEmbedding,
    logits,
    norm_layer,
)
from camelid.model.relative import RelativeBias
from camelid.model.rotary import inverse_frequencies, rotation
from camelid.model.spec import Learned, ModelSpec, RelativeBuckets, Rotary

RunBlock = Callable[[nn.Module, Tensor, Context], Tensor]
"""Runs a block of a stack, eagerly or compiled."""
Output = Literal["logits", "hidden", "source"] | Readout
"""What the forward pass returns: logits, states before the output projection, the encoder's, or a loss."""


class Stack(nn.Module):
    """A sequence of blocks with a final norm: a decoder or an encoder."""

    def __init__(self, spec: ModelSpec, *, encoder: bool = False) -> None:
        super().__init__()
        self.spec = spec
        count = spec.encoder_layers if encoder else spec.num_layers
        if spec.parallel:
            self.layers = nn.ModuleList(ParallelBlock(spec, layer) for layer in range(count))
        else:
            self.layers = nn.ModuleList(Block(spec, layer, encoder=encoder) for layer in range(count))
        self.norm = norm_layer(spec.hidden_size, spec.norm)
        self.relative_bias: RelativeBias | None = None
        if isinstance(spec.positions, RelativeBuckets):
            self.relative_bias = RelativeBias(spec.positions, spec.num_heads, bidirectional=encoder)
        self.recompute_activations = False
        self.adapter_dropout = 0.0
        self.run_block: RunBlock = run_block

    def forward(
        self,
        x: Float[Tensor, "batch time width"],
        positions: Int[Tensor, "batch time"],
        *,
        mask: Bool[Tensor, "batch time"] | None = None,
        documents: Int[Tensor, "batch time"] | None = None,
        shared: Int[Tensor, "batch time"] | None = None,
        cache: KeyValueCache | None = None,
        source: Source | None = None,
        seeds: Seeds | None = None,
    ) -> Float[Tensor, "batch time width"]:
        """The normalised hidden states after all layers; seeds: of dropout, used in training."""
        share = max(self.spec.dropout, self.adapter_dropout)
        seeds = required_seeds(seeds, share) if self.training else None
        past = None if cache is None or cache.fresh else cache.capacity
        if shared is not None and self.relative_bias is not None:
            raise TypeError("a shared beginning has no fixed distance, which relative position biases need")
        bias, masks = self._bias(positions, past), self._cache_masks(positions, past, x.dtype)
        if bias is not None and past is not None:
            bias = bias + masks[None]
        cosine, sine = self._rotation(positions)
        common = Context(0, positions, cosine, sine, bias, mask, documents, shared, source=source)
        layers = [None] * len(self.layers) if cache is None else cache.layers(positions)
        x = dropped(x, self.spec.dropout, seeds, Site.EMBEDDINGS)
        for index, (block, own) in enumerate(zip(self.layers, layers, strict=True)):
            context = replace(
                common,
                layer=index,
                cache=own,
                cache_mask=masks.get(self.spec.window_of(index)),
                seeds=derived_seeds(seeds, index) if seeds is not None and block.training else None,
            )
            if self.recompute_activations and torch.is_grad_enabled():
                x = checkpoint(
                    self.run_block, block, x, context, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x = self.run_block(block, x, context)
        if cache is not None:
            cache.advance(x.shape[1])
        normalised: Tensor = self.norm(x)
        if self.relative_bias is None:
            return normalised
        return dropped(normalised, self.spec.dropout, seeds, Site.FINAL_NORM)

    def _rotation(self, positions: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
        if not isinstance(self.spec.positions, Rotary):
            return None, None
        return rotation(
            positions, inverse_frequencies(self.spec.positions, self.spec.head_dim, positions.device)
        )

    def _cache_masks(
        self, positions: Tensor, past: int | None, dtype: torch.dtype
    ) -> dict[int | None, Tensor]:
        """The masks over a cache of `past` tokens, by window size."""
        if past is None:
            return {}
        windows = {self.spec.window_of(layer) for layer in range(len(self.layers))}
        return {window: past_mask(positions, past, window, dtype) for window in windows}

    def _bias(self, positions: Tensor, past: int | None) -> Tensor | None:
        if self.relative_bias is None:
            return None
        if past is not None:
            keys = torch.arange(past, device=positions.device)
            return self.relative_bias(positions, keys)  # type: ignore[no-any-return]
        # Distances within a document do not depend on its place in the row.
        steps = torch.arange(positions.shape[1], device=positions.device)
        return self.relative_bias(steps, steps)  # type: ignore[no-any-return]


class Transformer(Stack):
    """The language model that its `spec` describes; parameter names are Hugging Face's for LLaMA.

    `forward` is the only entry point, so that hooks on modules (FSDP) run in every pass. The model knows only
    tensors: no optimiser, quantisation or environment.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.embed_tokens = TokenEmbedding(spec.vocab_size, spec.hidden_size)
        self.embed_positions: Embedding | None = None
        if isinstance(spec.positions, Learned):
            rows = spec.context_length + spec.positions.offset
            self.embed_positions = Embedding(rows, spec.hidden_size)
        self.encoder = Stack(spec, encoder=True) if spec.encoder_layers else None
        self.lm_head: OutputProjection | None = None
        if not spec.tie_embeddings:
            self.lm_head = OutputProjection(spec.hidden_size, spec.vocab_size, bias=spec.output_bias)

    @property
    def stacks(self) -> list[Stack]:
        """The decoder, and the encoder where there is one."""
        return [self] if self.encoder is None else [self, self.encoder]

    def initialize(self, seed: int, std: float | None = None) -> "Transformer":
        """Draws new weights, see `camelid.model.initialize`."""
        initialize(self, self.spec, seed, std)
        return self

    @property
    def head(self) -> OutputProjection | TokenEmbedding:
        """The module that turns hidden states into logits; the embedding if both are tied."""
        return self.embed_tokens if self.lm_head is None else self.lm_head

    def forward(  # type: ignore[override]  # tokens where a stack takes states
        self,
        tokens: Int[Tensor, "batch time"],
        target: Int[Tensor, "batch target"] | None = None,
        *,
        mask: Bool[Tensor, "batch time"] | None = None,
        positions: Int[Tensor, "batch time"] | None = None,
        documents: Int[Tensor, "batch time"] | None = None,
        shared: Int[Tensor, "batch time"] | None = None,
        cache: KeyValueCache | None = None,
        source: Source | None = None,
        dtype: torch.dtype | None = None,
        output: Output = "logits",
        dropout_seeds: Int[Tensor, " batch"] | None = None,
    ) -> Tensor | Source:
        """Logits [batch, time, vocab] of the next token at every position, or what `output` selects.

        documents: id of each token's document; attention does not cross from one id to another, except to a
        beginning that is left out: `shared` says how many tokens of it a document leaves out because they are
        the first of the last document that leaves out none. `positions` count them, and relative position
        biases cannot share. positions: by default 0, 1, ... or those after the cache. dtype: of the
        activations, by default that of the weights. dropout_seeds: one for each row, needed in training with
        dropout.

        With an encoder, `tokens` is the source, `mask` is False at its padding, and `target` is the decoder's
        input; or `tokens` is the decoder's input, and `source` the encoder's earlier output. output: a
        `Readout` is called inside the output projection with the states and its matrix, so that it also works
        if modules hold their weights only during their own forward pass, as with FSDP.
        """
        if self.encoder is not None and source is None:
            source = self._encode(self.encoder, tokens, mask, dtype, dropout_seeds)
            if output == "source":
                return source
            if target is None:
                raise TypeError("a model with an encoder needs a target: the decoder's token ids")
            tokens = target
        hidden = self._decode(tokens, positions, documents, shared, cache, source, dtype, dropout_seeds)
        if output == "hidden":
            return hidden
        if callable(output):
            return self.head(hidden, output)  # type: ignore[no-any-return]
        return self.unembed(hidden)

    def hidden_states(
        self,
        tokens: Int[Tensor, "batch time"],
        *,
        positions: Int[Tensor, "batch time"] | None = None,
        documents: Int[Tensor, "batch time"] | None = None,
        cache: KeyValueCache | None = None,
        source: Source | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "batch time width"]:
        """The forward pass up to the normalised states before the output projection."""
        return self(  # type: ignore[no-any-return]
            tokens,
            positions=positions,
            documents=documents,
            cache=cache,
            source=source,
            dtype=dtype,
            output="hidden",
        )

    def encode(
        self,
        tokens: Int[Tensor, "batch source"],
        mask: Bool[Tensor, "batch source"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Source:
        """The encoder's output for the source texts; mask: True at tokens, False at padding."""
        assert self.encoder is not None  # only models with encoder_layers have a source
        return self(tokens, mask=mask, dtype=dtype, output="source")  # type: ignore[no-any-return]

    def unembed(self, hidden: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch vocab"]:
        """Logits of hidden states, in their dtype."""
        if self.lm_head is None:
            return self.embed_tokens(hidden, logits)  # type: ignore[no-any-return]
        return self.lm_head(hidden)  # type: ignore[no-any-return]

    def _encode(
        self,
        encoder: Stack,
        tokens: Tensor,
        mask: Tensor | None,
        dtype: torch.dtype | None,
        seeds: Tensor | None,
    ) -> Source:
        x = self.embed_tokens(tokens)
        x = x if dtype is None else x.to(dtype)
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        seeds = None if seeds is None else derived_seeds(seeds, ENCODER)
        return Source(encoder(x, positions, mask=mask, seeds=seeds), mask)

    def _decode(
        self,
        tokens: Tensor,
        positions: Tensor | None,
        documents: Tensor | None,
        shared: Tensor | None,
        cache: KeyValueCache | None,
        source: Source | None,
        dtype: torch.dtype | None,
        seeds: Tensor | None,
    ) -> Float[Tensor, "batch time width"]:
        if positions is None:
            steps = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
            positions = steps if cache is None else cache.positions(tokens.shape[1])
        x = self.embed_tokens(tokens)
        if self.embed_positions is not None and isinstance(self.spec.positions, Learned):
            # Padding after a prompt may lie beyond the last learned position.
            known = positions if cache is None else positions.clamp(max=self.spec.context_length - 1)
            x = x + self.embed_positions(known + self.spec.positions.offset)
        x = x if dtype is None else x.to(dtype)
        hidden = super().forward(
            x, positions, documents=documents, shared=shared, cache=cache, source=source, seeds=seeds
        )
        return hidden if self.spec.output_scale == 1 else hidden * self.spec.output_scale


def run_block(block: nn.Module, x: Tensor, context: Context) -> Tensor:
    """The block's output; autograd keeps what the backward pass needs."""
    return block(x, context)  # type: ignore[no-any-return]


KEPT = [
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.camelid.blocked_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
]
"""What `run_selectively` keeps: the results of linears and of attention, which take most of the time."""


def run_selectively(block: nn.Module, x: Tensor, context: Context) -> Tensor:
    """The block's output, keeping only `KEPT`; norms, activations and the like are computed again."""
    if not torch.is_grad_enabled():
        return run_block(block, x, context)
    result: Tensor = checkpoint(
        run_block,
        block,
        x,
        context,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=partial(create_selective_checkpoint_contexts, KEPT),
    )
    return result
