"""GPT-J (Wang and Komatsuzaki 2021), on which GPT4All-J was tuned."""

from typing import Any

from camelid.formats.hugging_face.families.config import (
    Config,
    activation,
    activation_name,
    dropout,
    head_size,
    real,
    refuse,
    whole,
    with_names,
)
from camelid.formats.hugging_face.families.family import Family
from camelid.formats.hugging_face.families.gpt2 import DROPOUTS, MASKS, NAMES
from camelid.formats.names import GPT_J_NAMES, Naming
from camelid.model.spec import FeedForward, ModelSpec, Norm, Rotary


def _read(config: Config) -> ModelSpec:
    config = with_names(config, NAMES)
    refuse(config, "tie_word_embeddings", allowed=(False,), default=False)
    hidden, heads = whole(config, "n_embd", 4096), whole(config, "n_head", 16)
    head_dim, dims = head_size(hidden, heads), whole({"rotary_dim": 64, **config}, "rotary_dim")
    return ModelSpec(
        vocab_size=whole(config, "vocab_size", 50400),
        hidden_size=hidden,
        num_layers=whole(config, "n_layer", 28),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=head_dim,
        context_length=whole(config, "n_positions", 2048),
        feed_forward=FeedForward(
            whole(config, "n_inner", 4 * hidden),
            activation(config, "activation_function", "gelu_new"),
            bias=True,
        ),
        positions=Rotary(dims=None if dims == head_dim else dims),
        norm=Norm("layer", real(config, "layer_norm_epsilon", 1e-5), bias=True),
        output_bias=True,
        parallel=True,
        dropout=dropout(config, DROPOUTS, 0.0),
    )


def _write(spec: ModelSpec) -> dict[str, Any]:
    return {
        "vocab_size": spec.vocab_size,
        "n_positions": spec.context_length,
        "n_embd": spec.hidden_size,
        "n_layer": spec.num_layers,
        "n_head": spec.num_heads,
        "n_inner": spec.feed_forward.width,
        "rotary_dim": getattr(spec.positions, "dims", None) or spec.head_dim,
        "activation_function": activation_name(spec.feed_forward.kind),
        "layer_norm_epsilon": spec.norm.eps,
        **dict.fromkeys(DROPOUTS, spec.dropout),
        "tie_word_embeddings": spec.tie_embeddings,
    }


GPT_J = Family(
    "GPTJForCausalLM",
    "gptj",
    _read,
    _write,
    Naming(GPT_J_NAMES, "hugging_face", pairs=True).place,
    ignored=MASKS,
    optional_prefix="transformer.",
)
