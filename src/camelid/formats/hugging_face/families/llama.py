"""LLaMA and its close relatives: Mistral, Qwen 2, 2.5 and 3 (SmolLM uses LLaMA's architecture)."""

from typing import Any, Literal

from camelid.base.errors import CamelidError, shortened
from camelid.formats.hugging_face.families.config import Config, flag, real, refuse, rotary, sizes, whole
from camelid.formats.hugging_face.families.family import Family
from camelid.formats.names import LLAMA_NAMES, Naming
from camelid.model.spec import FeedForward, ModelSpec, Norm, Window

Biases = Literal["none", "qkv", "all"]


def _spec(
    config: Config,
    *,
    attention_bias: Biases,
    mlp_bias: bool = False,
    window: Window | None = None,
    query_key_norm: bool = False,
    defaults: Config,
) -> ModelSpec:
    refuse(config, "hidden_act", allowed=("silu",), default="silu")
    heads = whole(config, "num_attention_heads")
    hidden = whole(config, "hidden_size")
    head_dim = config.get("head_dim") or defaults.get("head_dim")
    if head_dim is None and hidden % heads:
        raise CamelidError(
            f"config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads}, "
            "and head_dim is not given"
        )
    return ModelSpec(
        vocab_size=whole(config, "vocab_size"),
        hidden_size=hidden,
        num_layers=whole(config, "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=whole(config, "num_key_value_heads", defaults.get("num_key_value_heads", heads)),
        head_dim=whole(config, "head_dim", defaults.get("head_dim", hidden // heads)),
        context_length=whole(config, "max_position_embeddings", defaults["max_position_embeddings"]),
        feed_forward=FeedForward(whole(config, "intermediate_size"), bias=mlp_bias),
        positions=rotary(config),
        norm=Norm(eps=real(config, "rms_norm_eps", 1e-6)),
        tie_embeddings=flag(config, "tie_word_embeddings"),
        attention_bias=attention_bias,
        query_key_norm=query_key_norm,
        window=window,
    )


def _config(spec: ModelSpec) -> dict[str, Any]:
    return {**sizes(spec), "rms_norm_eps": spec.norm.eps}


def _all_or_none(config: Config) -> Biases:
    return "all" if flag(config, "attention_bias") else "none"


def _read_llama(config: Config) -> ModelSpec:
    return _spec(
        config,
        attention_bias=_all_or_none(config),
        mlp_bias=flag(config, "mlp_bias"),
        defaults={"max_position_embeddings": 2048},
    )


def _write_llama(spec: ModelSpec) -> dict[str, Any]:
    biases = {"attention_bias": spec.attention_bias == "all", "mlp_bias": spec.feed_forward.bias}
    return _config(spec) | biases


def _read_mistral(config: Config) -> ModelSpec:
    size = config.get("sliding_window", 4096)
    window = None if size is None else Window(whole(config, "sliding_window", 4096))
    defaults = {"max_position_embeddings": 4096 * 32, "num_key_value_heads": 8}
    return _spec(config, attention_bias="none", window=window, defaults=defaults)


def _write_mistral(spec: ModelSpec) -> dict[str, Any]:
    return _config(spec) | {"sliding_window": None if spec.window is None else spec.window.size}


def _read_qwen2(config: Config) -> ModelSpec:
    defaults = {"max_position_embeddings": 32768, "num_key_value_heads": 32}
    return _spec(config, attention_bias="qkv", window=_window_of_some(config), defaults=defaults)


def _write_qwen2(spec: ModelSpec) -> dict[str, Any]:
    return _config(spec) | _windows(spec)


def _read_qwen3(config: Config) -> ModelSpec:
    defaults = {"max_position_embeddings": 32768, "num_key_value_heads": 32, "head_dim": 128}
    return _spec(
        config,
        attention_bias=_all_or_none(config),
        window=_window_of_some(config),
        query_key_norm=True,
        defaults=defaults,
    )


def _write_qwen3(spec: ModelSpec) -> dict[str, Any]:
    return _config(spec) | {"attention_bias": spec.attention_bias == "all"} | _windows(spec)


def _window_of_some(config: Config) -> Window | None:
    """Qwen's sliding window, in the layers of `layer_types`, else those from `max_window_layers` on."""
    count, kinds = whole(config, "num_hidden_layers"), config.get("layer_types")
    if not flag(config, "use_sliding_window") or config.get("sliding_window", 4096) is None:
        if isinstance(kinds, list) and KINDS[1] in kinds:
            raise CamelidError(
                f"config.json: layer_types has {KINDS[1]}, "
                "but use_sliding_window is false or sliding_window is "
                "null; they must agree"
            )
        return None
    if kinds is None:
        first = whole(config, "max_window_layers", 28)
        if count > MOST_LISTED:
            raise CamelidError(
                f"config.json: num_hidden_layers is {shortened(count)}; at most {MOST_LISTED:,} "
                "with a window in some layers"
            )
        layers = tuple(range(first, count))
    else:
        if not isinstance(kinds, list) or len(kinds) != count or any(kind not in KINDS for kind in kinds):
            raise CamelidError(f"config.json: layer_types needs {count} entries, each of {', '.join(KINDS)}")
        layers = tuple(layer for layer, kind in enumerate(kinds) if kind == KINDS[1])
    if not layers:
        return None
    return Window(whole(config, "sliding_window", 4096), None if len(layers) == count else layers)


MOST_LISTED = 2**16
"""Maximum number of layers listed one by one."""
KINDS = ("full_attention", "sliding_attention")


def _windows(spec: ModelSpec) -> dict[str, Any]:
    if spec.window is None:
        return {"use_sliding_window": False, "sliding_window": None}
    kinds = [KINDS[spec.window_of(layer) is not None] for layer in range(spec.num_layers)]
    return {"use_sliding_window": True, "sliding_window": spec.window.size, "layer_types": kinds}


PLACE = Naming(LLAMA_NAMES, "hugging_face").place
LLAMA = Family("LlamaForCausalLM", "llama", _read_llama, _write_llama, PLACE)
MISTRAL = Family("MistralForCausalLM", "mistral", _read_mistral, _write_mistral, PLACE)
QWEN2 = Family("Qwen2ForCausalLM", "qwen2", _read_qwen2, _write_qwen2, PLACE)
QWEN3 = Family("Qwen3ForCausalLM", "qwen3", _read_qwen3, _write_qwen3, PLACE)
