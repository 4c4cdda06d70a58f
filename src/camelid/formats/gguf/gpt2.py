"""GGUF's architecture `gpt2`: learned positions, biases, queries, keys and values in one matrix."""

from typing import Any

from camelid.formats.gguf.architecture import EMBEDDING, Architecture, Keys, sizes
from camelid.formats.names import GPT2_NAMES, Naming
from camelid.model.spec import FeedForward, Learned, ModelSpec, Norm

NAMING = Naming(GPT2_NAMES, "gguf")
POSITIONS = NAMING.name("embed_positions.weight")


def _read(keys: Keys) -> ModelSpec:
    keys.expect("attention.causal", True, "non-causal attention is unsupported")
    heads = keys.whole("attention.head_count")
    return ModelSpec(
        vocab_size=keys.stored(EMBEDDING).shape[0],
        hidden_size=keys.whole("embedding_length"),
        num_layers=keys.whole("block_count"),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=keys.head_dim(),
        context_length=keys.whole("context_length"),
        # llama.cpp's converter always writes four times the width as feed_forward_length.
        feed_forward=FeedForward(
            keys.stored(NAMING.name("layers.0.mlp.up_proj.weight")).shape[0], "gelu", bias=True
        ),
        positions=Learned(),
        norm=Norm("layer", keys.real("attention.layer_norm_epsilon"), bias=True),
        tie_embeddings=keys.is_tied(),
        attention_bias="all",
    )


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


GPT2 = Architecture("gpt2", NAMING, _write, _holds, _read)
