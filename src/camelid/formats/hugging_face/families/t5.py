"""T5 1.0 and 1.1: an encoder and a decoder with relative positions."""

import re
from typing import Any, Literal

from camelid.formats.hugging_face.families.config import Config, flag, real, refuse, share, whole, with_names
from camelid.formats.hugging_face.families.family import Family
from camelid.formats.names import T5_NAMES, T5_V1_1_NAMES, Naming, Place
from camelid.model.spec import FeedForward, ModelSpec, Norm, RelativeBuckets

Kind = Literal["relu", "geglu"]
PROJECTIONS: dict[str, Kind] = {"relu": "relu", "gated-gelu": "geglu"}


NAMES = {
    "hidden_size": "d_model",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "head_dim": "d_kv",
}
"""transformers' general names of T5's own keys."""


def _read(config: Config) -> ModelSpec:
    config = with_names(config, NAMES)
    refuse(config, "feed_forward_proj", allowed=tuple(PROJECTIONS), default="relu")
    padding = config.get("pad_token_id") or 0
    refuse(config, "decoder_start_token_id", allowed=(padding, None), default=None)
    heads, hidden, layers = (
        whole(config, "num_heads", 8),
        whole(config, "d_model", 512),
        whole(config, "num_layers", 6),
    )
    tied = flag(config, "tie_word_embeddings", True)
    # T5 1.0 scales the input of the tied output projection. Newer folders have a key for it; in older ones,
    # tying implied it.
    scaled = flag(config, "scale_decoder_outputs", tied)
    return ModelSpec(
        vocab_size=whole(config, "vocab_size", 32128),
        hidden_size=hidden,
        num_layers=whole(config, "num_decoder_layers", layers),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=whole(config, "d_kv", 64),
        context_length=whole(config, "n_positions", 512),
        feed_forward=FeedForward(
            whole(config, "d_ff", 2048), PROJECTIONS[config.get("feed_forward_proj", "relu")]
        ),
        positions=RelativeBuckets(
            whole(config, "relative_attention_num_buckets", 32),
            whole(config, "relative_attention_max_distance", 128),
        ),
        norm=Norm(eps=real(config, "layer_norm_epsilon", 1e-6)),
        tie_embeddings=tied,
        output_scale=hidden**-0.5 if scaled else 1.0,
        encoder_layers=layers,
        dropout=share(config, "dropout_rate", 0.1),
    )


def _write(spec: ModelSpec) -> dict[str, Any]:
    positions = spec.positions if isinstance(spec.positions, RelativeBuckets) else RelativeBuckets()
    kinds = {str(kind): name for name, kind in PROJECTIONS.items()}
    return {
        "is_encoder_decoder": True,
        "vocab_size": spec.vocab_size,
        "d_model": spec.hidden_size,
        "d_kv": spec.head_dim,
        "d_ff": spec.feed_forward.width,
        "num_layers": spec.encoder_layers,
        "num_decoder_layers": spec.num_layers,
        "num_heads": spec.num_heads,
        "relative_attention_num_buckets": positions.buckets,
        "relative_attention_max_distance": positions.most_distance,
        "n_positions": spec.context_length,
        "dropout_rate": spec.dropout,
        "layer_norm_epsilon": spec.norm.eps,
        "feed_forward_proj": kinds.get(spec.feed_forward.kind),
        "tie_word_embeddings": spec.tie_embeddings,
        "scale_decoder_outputs": spec.output_scale != 1,
    }


def _place(spec: ModelSpec, parameter: str) -> Place:
    return Naming(T5_V1_1_NAMES if spec.feed_forward.gated else T5_NAMES, "hugging_face").place(
        spec, parameter
    )


T5 = Family(
    "T5ForConditionalGeneration",
    "t5",
    _read,
    _write,
    _place,
    ignored=re.compile(
        r"(en|de)coder\.embed_tokens\.weight|decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight"
    ),
    quantizable=False,
)
