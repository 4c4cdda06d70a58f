"""GGUF's architecture `gpt2`: learned positions, biases everywhere, queries, keys and values in one matrix."""

from typing import Any

from camelid.formats.gguf.architecture import EMBEDDING, OUTPUT, Architecture, Keys, sizes
from camelid.formats.hugging_face.families.family import Place
from camelid.formats.hugging_face.families.gpt2 import JOINED
from camelid.model.spec import FeedForward, Learned, ModelSpec, Norm

POSITIONS = "position_embd.weight"
OUTER_NAMES = {
    "embed_tokens.weight": EMBEDDING,
    "embed_positions.weight": POSITIONS,
    "norm.weight": "output_norm.weight",
    "norm.bias": "output_norm.bias",
    "lm_head.weight": OUTPUT,
}
BLOCK_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _read(keys: Keys) -> ModelSpec:
    keys.expect("attention.causal", True, "a model that sees later tokens is unsupported")
    heads = keys.whole("attention.head_count")
    return ModelSpec(
        vocab_size=keys.stored(EMBEDDING).shape[0],
        hidden_size=keys.whole("embedding_length"),
        num_layers=keys.whole("block_count"),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=keys.head_dim(),
        context_length=keys.whole("context_length"),
        # llama.cpp's converter writes four times the width as feed_forward_length, whatever the model has.
        feed_forward=FeedForward(keys.stored("blk.0.ffn_up.weight").shape[0], "gelu", bias=True),
        positions=Learned(),
        norm=Norm("layer", keys.real("attention.layer_norm_epsilon"), bias=True),
        tie_embeddings=keys.is_tied(),
        attention_bias="all",
    )


def _place(spec: ModelSpec, parameter: str) -> Place:
    if parameter in OUTER_NAMES:
        return Place(OUTER_NAMES[parameter])
    _, layer, *inside, kind = parameter.split(".")
    module = ".".join(inside)
    if module in JOINED:
        return Place(f"blk.{layer}.attn_qkv.{kind}", JOINED.index(module), len(JOINED))
    return Place(f"blk.{layer}.{BLOCK_NAMES[module]}.{kind}")


def _write(spec: ModelSpec) -> dict[str, Any]:
    return {**sizes(spec), "attention.layer_norm_epsilon": spec.norm.eps}


def _holds(spec: ModelSpec) -> ModelSpec:
    return ModelSpec(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        num_layers=spec.num_layers,
        num_heads=spec.num_heads,
        num_kv_heads=spec.num_heads,
        head_dim=max(1, spec.hidden_size // spec.num_heads),
        context_length=spec.context_length,
        feed_forward=FeedForward(spec.feed_forward.width, "gelu", bias=True),
        positions=Learned(),
        norm=Norm("layer", spec.norm.eps, bias=True),
        tie_embeddings=spec.tie_embeddings,
        attention_bias="all",
    )


GPT2 = Architecture("gpt2", _place, _write, _holds, _read)
