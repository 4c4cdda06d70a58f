"""What a Hugging Face `config.json` says, as a `ModelSpec`, and back: one table entry per architecture.

One entry serves import and export: the reader, the writer, and the names of the tensors.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from camelid.errors import CamelidError
from camelid.model.spec import FeedForward, LinearScaling, Llama3Scaling, ModelSpec, Norm, Rotary

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """How one architecture of transformers maps to a `ModelSpec`."""

    architecture: str
    model_type: str
    read: Callable[[Config], ModelSpec]
    write: Callable[[ModelSpec], dict[str, Any]]
    prefix: str
    """What stands before every tensor's name on disk, save those in `unprefixed`."""
    unprefixed: tuple[str, ...] = ("lm_head.weight",)

    def name_on_disk(self, parameter: str) -> str:
        """The tensor name that transformers uses for one of our parameters."""
        return parameter if parameter in self.unprefixed else self.prefix + parameter


def _llama_spec(config: Config) -> ModelSpec:
    _refuse(config, "hidden_act", allowed=("silu",), default="silu")
    heads = _whole(config, "num_attention_heads")
    hidden = _whole(config, "hidden_size")
    if config.get("head_dim") is None and hidden % heads:
        raise CamelidError(
            f"config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads}, "
            "and head_dim is not given"
        )
    return ModelSpec(
        vocab_size=_whole(config, "vocab_size"),
        hidden_size=hidden,
        num_layers=_whole(config, "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=_whole(config, "num_key_value_heads", heads),
        head_dim=_whole(config, "head_dim", hidden // heads),
        context_length=_whole(config, "max_position_embeddings", 2048),
        feed_forward=FeedForward(_whole(config, "intermediate_size")),
        positions=_rotary(config),
        norm=Norm(eps=_real(config, "rms_norm_eps", 1e-6)),
        tie_embeddings=_flag(config, "tie_word_embeddings"),
        attention_bias=_flag(config, "attention_bias"),
        mlp_bias=_flag(config, "mlp_bias"),
    )


def _llama_config(spec: ModelSpec) -> dict[str, Any]:
    return {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.feed_forward.width,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "num_key_value_heads": spec.num_kv_heads,
        "head_dim": spec.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": spec.context_length,
        "rms_norm_eps": spec.norm.eps,
        "rope_theta": spec.positions.theta,
        "rope_scaling": _rope_scaling(spec.positions),
        "attention_bias": spec.attention_bias,
        "mlp_bias": spec.mlp_bias,
        "tie_word_embeddings": spec.tie_embeddings,
    }


def _rotary(config: Config) -> Rotary:
    # transformers 5 keeps one `rope_parameters`; older folders keep `rope_theta` beside `rope_scaling`.
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise CamelidError(f"config.json: the rope settings are {rope!r}; a table is needed")
    _refuse({**config, **rope}, "partial_rotary_factor", allowed=(1, None), default=None)
    theta = _real(rope, "rope_theta", _real(config, "rope_theta", 10000.0))
    match rope.get("rope_type") or rope.get("type") or "default":
        case "default":
            return Rotary(theta)
        case "linear":
            return Rotary(theta, LinearScaling(_real(rope, "factor")))
        case "llama3":
            scaling = Llama3Scaling(
                _real(rope, "factor"),
                _real(rope, "low_freq_factor"),
                _real(rope, "high_freq_factor"),
                _whole(rope, "original_max_position_embeddings"),
            )
            return Rotary(theta, scaling)
        case kind:
            raise CamelidError(f"config.json: rope_type is {kind!r}; supported: default, linear, llama3")


def _rope_scaling(rotary: Rotary) -> dict[str, Any] | None:
    match rotary.scaling:
        case None:
            return None
        case LinearScaling(factor):
            return {"rope_type": "linear", "factor": factor}
        case Llama3Scaling() as scaling:
            return {
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_frequency_factor,
                "high_freq_factor": scaling.high_frequency_factor,
                "original_max_position_embeddings": scaling.original_context_length,
            }


def _whole(config: Config, key: str, default: int | None = None) -> int:
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CamelidError(f"config.json: {key} is {value!r}; a whole number above 0 is needed")
    return value


def _real(config: Config, key: str, default: float | None = None) -> float:
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise CamelidError(f"config.json: {key} is {value!r}; a number above 0 is needed")
    return float(value)


def _flag(config: Config, key: str) -> bool:
    _refuse(config, key, allowed=(True, False), default=False)
    return bool(config.get(key, False))


def _refuse(config: Config, key: str, *, allowed: tuple[Any, ...], default: Any) -> None:
    if (value := config.get(key, default)) not in allowed:
        raise CamelidError(f"config.json: {key} is {value!r}; supported: {', '.join(map(repr, allowed))}")


FAMILIES = (Family("LlamaForCausalLM", "llama", _llama_spec, _llama_config, prefix="model."),)


def family_of(config: Config) -> Family:
    """The family that a `config.json` names; raises `CamelidError` with the list of those supported."""
    named = config.get("architectures") or []
    if not isinstance(named, list):
        raise CamelidError(f"config.json: architectures is {named!r}; a list of names is needed")
    for family in FAMILIES:
        if family.architecture in named or (not named and config.get("model_type") == family.model_type):
            return family
    found = ", ".join(map(str, named)) or config.get("model_type") or "none"
    supported = ", ".join(family.architecture for family in FAMILIES)
    raise CamelidError(f"config.json: the architecture is {found}; supported: {supported}")


def family_for(spec: ModelSpec) -> Family:
    """The family that writes this spec."""
    return FAMILIES[0]
