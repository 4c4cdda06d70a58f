"""OPT (Zhang et al. 2022, arXiv:2205.01068), and Galactica, which Galpaca is tuned from.

transformers drops other values than our dropout would, so models are read without; a new one may have it.
"""

from typing import Any

from camelid.formats.hugging_face.families.config import (
    Config,
    activation,
    activation_name,
    flag,
    head_size,
    refuse,
    whole,
)
from camelid.formats.hugging_face.families.family import Family
from camelid.formats.names import OPT_NAMES, Naming
from camelid.model.spec import FeedForward, Learned, ModelSpec, Norm

OFFSET = 2
"""Vectors of the position table before the first position: fairseq's padding."""


def _read(config: Config) -> ModelSpec:
    hidden, heads = whole(config, "hidden_size", 768), whole(config, "num_attention_heads", 12)
    # Only OPT-350M differs in these.
    refuse(config, "do_layer_norm_before", allowed=(True,), default=True)
    refuse(config, "word_embed_proj_dim", allowed=(hidden, None), default=None)
    refuse(config, "_remove_final_layer_norm", allowed=(False,), default=False)
    bias, gain = flag(config, "enable_bias", True), flag(config, "layer_norm_elementwise_affine", True)
    return ModelSpec(
        vocab_size=whole(config, "vocab_size", 50272),
        hidden_size=hidden,
        num_layers=whole(config, "num_hidden_layers", 12),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=head_size(hidden, heads),
        context_length=whole(config, "max_position_embeddings", 2048),
        feed_forward=FeedForward(
            whole(config, "ffn_dim", 3072), activation(config, "activation_function", "relu"), bias=bias
        ),
        positions=Learned(OFFSET),
        norm=Norm("layer", 1e-5, bias=gain, gain=gain),
        tie_embeddings=flag(config, "tie_word_embeddings", True),
        attention_bias="all" if bias else "none",
    )


def _write(spec: ModelSpec) -> dict[str, Any]:
    return {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "word_embed_proj_dim": spec.hidden_size,
        "ffn_dim": spec.feed_forward.width,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "max_position_embeddings": spec.context_length,
        "activation_function": activation_name(spec.feed_forward.kind),
        "do_layer_norm_before": True,
        "enable_bias": spec.feed_forward.bias,
        "layer_norm_elementwise_affine": spec.norm.gain,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "tie_word_embeddings": spec.tie_embeddings,
    }


OPT = Family(
    "OPTForCausalLM",
    "opt",
    _read,
    _write,
    Naming(OPT_NAMES, "hugging_face").place,
    optional_prefix="model.",
)
