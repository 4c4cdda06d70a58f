"""GPT-2."""

import re
from typing import Any

from camelid.formats.hugging_face.families.config import (
    Config,
    dropout,
    flag,
    head_size,
    real,
    refuse,
    whole,
    with_names,
)
from camelid.formats.hugging_face.families.family import Family
from camelid.formats.names import GPT2_NAMES, Naming
from camelid.model.spec import FeedForward, Learned, ModelSpec, Norm

DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")


NAMES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
"""transformers' general names of GPT-2's own keys."""


def _read(config: Config) -> ModelSpec:
    config = with_names(config, NAMES)
    refuse(config, "activation_function", allowed=("gelu_new", "gelu_pytorch_tanh"), default="gelu_new")
    refuse(config, "scale_attn_weights", allowed=(True,), default=True)
    for key in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        refuse(config, key, allowed=(False,), default=False)
    hidden, heads = whole(config, "n_embd", 768), whole(config, "n_head", 12)
    return ModelSpec(
        vocab_size=whole(config, "vocab_size", 50257),
        hidden_size=hidden,
        num_layers=whole(config, "n_layer", 12),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=head_size(hidden, heads),
        context_length=whole(config, "n_positions", 1024),
        feed_forward=FeedForward(whole(config, "n_inner", 4 * hidden), "gelu", bias=True),
        positions=Learned(),
        norm=Norm("layer", real(config, "layer_norm_epsilon", 1e-5), bias=True),
        tie_embeddings=flag(config, "tie_word_embeddings", True),
        attention_bias="all",
        dropout=dropout(config, DROPOUTS, 0.1),
    )


def _write(spec: ModelSpec) -> dict[str, Any]:
    return {
        "vocab_size": spec.vocab_size,
        "n_positions": spec.context_length,
        "n_embd": spec.hidden_size,
        "n_layer": spec.num_layers,
        "n_head": spec.num_heads,
        "n_inner": spec.feed_forward.width,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": spec.norm.eps,
        **dict.fromkeys(DROPOUTS, spec.dropout),
        "tie_word_embeddings": spec.tie_embeddings,
    }


MASKS = re.compile(r".*\.attn\.(masked_)?bias")
GPT2 = Family(
    "GPT2LMHeadModel",
    "gpt2",
    _read,
    _write,
    # Conv1D stores [inputs, outputs].
    Naming(GPT2_NAMES, "hugging_face", transposed=True).place,
    ignored=MASKS,
    optional_prefix="transformer.",
    quantizable=False,
)
