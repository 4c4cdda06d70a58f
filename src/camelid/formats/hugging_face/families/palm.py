"""PaLM as Cohere's architecture: parallel blocks, one norm, shared keys and values, an output scale."""

from typing import Any

from camelid.base.errors import CamelidError
from camelid.formats.hugging_face.families.config import Config, flag, real, refuse, rotary, sizes, whole
from camelid.formats.hugging_face.families.family import Family
from camelid.formats.names import LLAMA_NAMES, Naming
from camelid.model.spec import FeedForward, ModelSpec, Norm


def _read(config: Config) -> ModelSpec:
    refuse(config, "hidden_act", allowed=("silu",), default="silu")
    refuse(config, "use_qk_norm", allowed=(False,), default=False)
    hidden, heads = whole(config, "hidden_size", 8192), whole(config, "num_attention_heads", 64)
    if config.get("head_dim") is None and hidden % heads:
        raise CamelidError(
            f"config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads}"
        )
    return ModelSpec(
        vocab_size=whole(config, "vocab_size", 256000),
        hidden_size=hidden,
        num_layers=whole(config, "num_hidden_layers", 40),
        num_heads=heads,
        num_kv_heads=whole(config, "num_key_value_heads", heads),
        head_dim=whole(config, "head_dim", hidden // heads),
        context_length=whole(config, "max_position_embeddings", 8192),
        feed_forward=FeedForward(whole(config, "intermediate_size", 22528)),
        positions=rotary(config, default_theta=500000.0),
        norm=Norm("layer", real(config, "layer_norm_eps", 1e-5)),
        tie_embeddings=flag(config, "tie_word_embeddings", True),
        attention_bias="all" if flag(config, "attention_bias") else "none",
        parallel=True,
        output_scale=real(config, "logit_scale", 0.0625),
    )


def _write(spec: ModelSpec) -> dict[str, Any]:
    return {
        **sizes(spec),
        "layer_norm_eps": spec.norm.eps,
        "attention_bias": spec.attention_bias == "all",
        "logit_scale": spec.output_scale,
        "use_qk_norm": False,
    }


# Cohere rotates adjacent rows, like GPT-J.
NAMING = Naming(LLAMA_NAMES, "hugging_face", pairs=True)
COHERE = Family("CohereForCausalLM", "cohere", _read, _write, NAMING.place, quantizable=False)
