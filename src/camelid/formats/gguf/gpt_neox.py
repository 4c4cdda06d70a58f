"""GGUF's architecture `gptneox`: partial rotary positions, attention and feed-forward side by side or not.

llama.cpp computes GELU in its tanh form here, at most 5e-4 from the exact one.
"""

from typing import Any

from camelid.base.errors import CamelidError, shortened
from camelid.formats.gguf.architecture import EMBEDDING, Architecture, Keys, sizes
from camelid.formats.names import GPT_NEOX_NAMES, Naming
from camelid.model.spec import FeedForward, ModelSpec, Norm, Rotary

NAMING = Naming(GPT_NEOX_NAMES, "gguf")
"""Queries, keys and values follow one another in `attn_qkv`, as llama.cpp's converter rearranges them."""


def _read(keys: Keys) -> ModelSpec:
    keys.expect("attention.causal", True, "non-causal attention is unsupported")
    if (scaling := keys.get("rope.scaling.type", "none")) != "none":
        raise CamelidError(f"{keys.prefix}rope.scaling.type is {shortened(scaling)}; supported: none")
    heads, head_dim = keys.whole("attention.head_count"), keys.head_dim()
    return _model(
        vocab_size=keys.stored(EMBEDDING).shape[0],
        hidden_size=keys.whole("embedding_length"),
        num_layers=keys.whole("block_count"),
        num_heads=heads,
        head_dim=head_dim,
        context_length=keys.whole("context_length"),
        width=keys.whole("feed_forward_length"),
        positions=Rotary(
            keys.real("rope.freq_base", 10000.0),
            dims=_partly(keys.whole("rope.dimension_count", head_dim), head_dim),
        ),
        eps=keys.real("attention.layer_norm_epsilon"),
        parallel=bool(keys.get("use_parallel_residual", True)),
        tied=keys.is_tied(),
    )


def _partly(dims: int, head_dim: int) -> int | None:
    return None if dims == head_dim else dims


def _model(
    *,
    num_heads: int,
    width: int,
    eps: float,
    parallel: bool,
    tied: bool,
    **sizes: Any,
) -> ModelSpec:
    """What all models of this architecture have in common."""
    return ModelSpec(
        num_heads=num_heads,
        num_kv_heads=num_heads,
        feed_forward=FeedForward(width, "exact_gelu", bias=True),
        norm=Norm("layer", eps, bias=True),
        tie_embeddings=tied,
        attention_bias="all",
        parallel=parallel,
        separate_norms=parallel,
        **sizes,
    )


def _write(spec: ModelSpec) -> dict[str, Any]:
    assert isinstance(spec.positions, Rotary)  # `_holds` gives no others
    return {
        **sizes(spec),
        "attention.layer_norm_epsilon": spec.norm.eps,
        "rope.dimension_count": spec.positions.dims or spec.head_dim,
        "rope.freq_base": spec.positions.theta,
        "use_parallel_residual": spec.parallel,
    }


def _holds(spec: ModelSpec) -> ModelSpec:
    rotary = spec.positions if isinstance(spec.positions, Rotary) else Rotary()
    head_dim = max(2, spec.hidden_size // spec.num_heads)
    return _model(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        num_layers=spec.num_layers,
        num_heads=spec.num_heads,
        head_dim=head_dim + head_dim % 2,
        context_length=spec.context_length,
        width=spec.feed_forward.width,
        positions=Rotary(rotary.theta, dims=rotary.dims if (rotary.dims or 0) <= head_dim else None),
        eps=spec.norm.eps,
        parallel=spec.parallel,
        tied=spec.tie_embeddings,
    )


GPT_NEOX = Architecture("gptneox", NAMING, _write, _holds, _read)
