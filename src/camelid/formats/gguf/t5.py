"""GGUF's architecture `t5`, which is written and not read: llama.cpp leaves T5 1.0's output scale out, so files differ."""

import re
from typing import Any

from camelid.formats.gguf.architecture import EMBEDDING, OUTPUT, Architecture, sizes
from camelid.formats.hugging_face.families.family import Place
from camelid.model.spec import FeedForward, ModelSpec, Norm, RelativeBuckets

MOST_DISTANCE = 128
"""Fixed in llama.cpp."""
START = "t5.decoder_start_token_id"
"""Which token an answer begins with; the folder's config says it, and no spec."""
OUTER_NAMES = {
    "embed_tokens": EMBEDDING,
    "lm_head": OUTPUT,
    "norm": "dec.output_norm.weight",
    "encoder.norm": "enc.output_norm.weight",
    "relative_bias": "dec.blk.0.attn_rel_b.weight",
    "encoder.relative_bias": "enc.blk.0.attn_rel_b.weight",
}
BLOCK_NAMES = {
    "input_layernorm": "attn_norm",
    "cross_attn_layernorm": "cross_attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    **{f"self_attn.{each}_proj": f"attn_{each}" for each in "qkvo"},
    **{f"cross_attn.{each}_proj": f"cross_attn_{each}" for each in "qkvo"},
}


def _place(spec: ModelSpec, parameter: str) -> Place:
    module = parameter.removesuffix(".weight")
    if module in OUTER_NAMES:
        return Place(OUTER_NAMES[module])
    found = re.fullmatch(r"(encoder\.)?layers\.(\d+)\.(.+)", module)
    assert found is not None  # every other parameter stands in a layer
    encoder, layer, inside = found.groups()
    return Place(f"{'enc' if encoder else 'dec'}.blk.{layer}.{BLOCK_NAMES[inside]}.weight")


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


T5 = Architecture("t5", _place, _write, _holds)
