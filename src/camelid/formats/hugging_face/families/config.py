"""Reads values from a `config.json`; errors name the key that is missing, mistyped or unsupported."""

import sys
from collections.abc import Mapping
from typing import Any

from camelid.base.errors import CamelidError, shortened
from camelid.model.spec import LinearScaling, Llama3Scaling, ModelSpec, Positions, Rotary

Config = Mapping[str, Any]


def rotary(config: Config, default_theta: float = 10000.0) -> Rotary:
    """The config's rotary positions; raises `CamelidError` on unsupported scaling."""
    # transformers 5 keeps one `rope_parameters`; older folders keep `rope_theta` beside `rope_scaling`.
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise CamelidError(f"config.json: the rope settings are {shortened(rope)}; they must be an object")
    refuse({**config, **rope}, "partial_rotary_factor", allowed=(1, None), default=None)
    theta = real(rope, "rope_theta", real(config, "rope_theta", default_theta))
    match rope.get("rope_type") or rope.get("type") or "default":
        case "default":
            return Rotary(theta)
        case "linear":
            return Rotary(theta, LinearScaling(real(rope, "factor")))
        case "llama3":
            scaling = Llama3Scaling(
                real(rope, "factor"),
                real(rope, "low_freq_factor"),
                real(rope, "high_freq_factor"),
                whole(rope, "original_max_position_embeddings"),
            )
            return Rotary(theta, scaling)
        case kind:
            raise CamelidError(
                f"config.json: rope_type is {shortened(kind)}; supported: default, linear, llama3"
            )


def rope_settings(positions: Positions) -> dict[str, Any]:
    """The keys that `rotary` reads; empty for other positions."""
    if not isinstance(positions, Rotary):
        return {}
    scaling: dict[str, Any] | None
    match positions.scaling:
        case None:
            scaling = None
        case LinearScaling(factor):
            scaling = {"rope_type": "linear", "factor": factor}
        case Llama3Scaling() as llama3:
            scaling = {
                "rope_type": "llama3",
                "factor": llama3.factor,
                "low_freq_factor": llama3.low_frequency_factor,
                "high_freq_factor": llama3.high_frequency_factor,
                "original_max_position_embeddings": llama3.original_context_length,
            }
    return {"rope_theta": positions.theta, "rope_scaling": scaling}


def sizes(spec: ModelSpec) -> dict[str, Any]:
    """The keys that LLaMA, its relatives and Cohere have in common, as written."""
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
        **rope_settings(spec.positions),
        "tie_word_embeddings": spec.tie_embeddings,
    }


def whole(config: Config, key: str, default: int | None = None) -> int:
    """A whole number above 0."""
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CamelidError(f"config.json: {key} is {shortened(value)}; it must be a whole number above 0")
    return value


def real(config: Config, key: str, default: float | None = None) -> float:
    """A number above 0."""
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= sys.float_info.max:
        raise CamelidError(f"config.json: {key} is {shortened(value)}; it must be a number above 0")
    return float(value)


def share(config: Config, key: str, default: float) -> float:
    """A number from 0 up to 1."""
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise CamelidError(f"config.json: {key} is {shortened(value)}; it must be a number from 0 to 1")
    return float(value)


def flag(config: Config, key: str, default: bool = False) -> bool:
    """True or false."""
    refuse(config, key, allowed=(True, False), default=default)
    return bool(config.get(key, default))


def refuse(config: Config, key: str, *, allowed: tuple[Any, ...], default: Any) -> None:
    """Raises `CamelidError` if the key has an unsupported value."""
    if (value := config.get(key, default)) not in allowed:
        raise CamelidError(
            f"config.json: {key} is {shortened(value)}; supported: {', '.join(map(repr, allowed))}"
        )
