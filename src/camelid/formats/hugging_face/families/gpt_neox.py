"""GPT-NeoX (Black et al. 2022, arXiv:2204.06745): Pythia, and Dolly, which is tuned from it."""

import math
import re
from typing import Any

from camelid.formats.hugging_face.families.config import (
    Config,
    activation,
    activation_name,
    dropout,
    flag,
    head_size,
    real,
    refuse,
    rope_settings,
    rotary,
    whole,
)
from camelid.formats.hugging_face.families.family import Family
from camelid.formats.names import GPT_NEOX_NAMES, Naming
from camelid.model.spec import FeedForward, ModelSpec, Norm

DROPOUTS = ("hidden_dropout", "attention_dropout")


def _read(config: Config) -> ModelSpec:
    hidden, heads = whole(config, "hidden_size", 6144), whole(config, "num_attention_heads", 64)
    head_dim = head_size(hidden, heads)
    refuse(config, "rope_theta", allowed=(None,), default=None)  # transformers reads rotary_emb_base
    return ModelSpec(
        vocab_size=whole(config, "vocab_size", 50432),
        hidden_size=hidden,
        num_layers=whole(config, "num_hidden_layers", 44),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=head_dim,
        context_length=whole(config, "max_position_embeddings", 2048),
        feed_forward=FeedForward(
            whole(config, "intermediate_size", 24576), activation(config, "hidden_act", "gelu"), bias=True
        ),
        positions=rotary(
            config, real(config, "rotary_emb_base", 10000.0), head_dim, real(config, "rotary_pct", 0.25)
        ),
        norm=Norm("layer", real(config, "layer_norm_eps", 1e-5), bias=True),
        tie_embeddings=flag(config, "tie_word_embeddings"),
        attention_bias="all" if flag(config, "attention_bias", True) else "none",
        parallel=(parallel := flag(config, "use_parallel_residual", True)),
        separate_norms=parallel,
        dropout=dropout(config, DROPOUTS, 0.0),
    )


def _write(spec: ModelSpec) -> dict[str, Any]:
    rope = rope_settings(spec.positions)
    return {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.feed_forward.width,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "hidden_act": activation_name(spec.feed_forward.kind),
        "max_position_embeddings": spec.context_length,
        "rotary_pct": _rotated(spec),
        "rotary_emb_base": rope.get("rope_theta"),
        "rope_scaling": rope.get("rope_scaling"),
        "layer_norm_eps": spec.norm.eps,
        **dict.fromkeys(DROPOUTS, spec.dropout),
        "attention_bias": spec.attention_bias == "all",
        "use_parallel_residual": spec.parallel,
        "tie_word_embeddings": spec.tie_embeddings,
    }


def _rotated(spec: ModelSpec) -> float:
    """The least share of a head that readers, who cut the product, take for the rotated dimensions."""
    dims = getattr(spec.positions, "dims", None)
    if dims is None:
        return 1.0
    exact = dims / spec.head_dim
    return exact if int(spec.head_dim * exact) == dims else math.nextafter(exact, 1.0)


GPT_NEOX = Family(
    "GPTNeoXForCausalLM",
    "gpt_neox",
    _read,
    _write,
    Naming(GPT_NEOX_NAMES, "hugging_face", by_head=True).place,
    ignored=re.compile(r".*\.attention\.((masked_)?bias|rotary_emb\.inv_freq)"),
    # transformers 5 has the second name in memory.
    other_names={"lm_head.weight": "embed_out.weight"},
)
