"""GGUF's architecture `t5`, write-only: llama.cpp omits T5 1.0's output scale, so files are ambiguous."""

from typing import Any

from camelid.formats.gguf.architecture import Architecture, sizes
from camelid.formats.names import T5_NAMES, Naming
from camelid.model.spec import FeedForward, ModelSpec, Norm, RelativeBuckets

MOST_DISTANCE = 128
"""Fixed in llama.cpp."""
START = "t5.decoder_start_token_id"
"""The first token of an answer; it is in the folder's config, not in the spec."""


def _write(spec: ModelSpec) -> dict[str, Any]:
    assert isinstance(spec.positions, RelativeBuckets)  # `_holds` gives no others
    return {
        **sizes(spec),
        "block_count": spec.encoder_layers,
        "decoder_block_count": spec.num_layers,
        "attention.key_length": spec.head_dim,
        "attention.value_length": spec.head_dim,
        "attention.layer_norm_epsilon": spec.norm.eps,
        "attention.layer_norm_rms_epsilon": spec.norm.eps,
        "attention.relative_buckets_count": spec.positions.buckets,
    }


def _holds(spec: ModelSpec) -> ModelSpec:
    buckets = spec.positions.buckets if isinstance(spec.positions, RelativeBuckets) else 32
    return ModelSpec(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        num_layers=spec.num_layers,
        num_heads=spec.num_heads,
        num_kv_heads=spec.num_heads,
        head_dim=spec.head_dim,
        context_length=spec.context_length,
        feed_forward=FeedForward(
            spec.feed_forward.width, "geglu" if spec.feed_forward.kind == "geglu" else "relu"
        ),
        positions=RelativeBuckets(buckets, MOST_DISTANCE),
        norm=Norm(eps=spec.norm.eps),
        tie_embeddings=spec.tie_embeddings,
        encoder_layers=max(1, spec.encoder_layers),
    )


T5 = Architecture("t5", Naming(T5_NAMES, "gguf"), _write, _holds)
