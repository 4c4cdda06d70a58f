"""Reads values from a `config.json`; errors name the key that is missing, mistyped or unsupported."""

import sys
from collections.abc import Mapping
from typing import Any, Literal

from camelid.base.errors import CamelidError, shortened
from camelid.model.spec import LinearScaling, Llama3Scaling, ModelSpec, Positions, Rotary

Config = Mapping[str, Any]
Plain = Literal["gelu", "exact_gelu", "relu"]


def rotary(
    config: Config, default_theta: float = 10000.0, head_dim: int = 0, default_share: float = 1.0
) -> Rotary:
    """The config's rotary positions; raises `CamelidError` on unsupported or incomplete scaling.

    head_dim: if not 0, a share of each head may be rotated, by default `default_share`.
    """
    rope, factor = _rope(config, default_theta), "partial_rotary_factor"
    dims: int | None = None
    if head_dim:
        dims = int(head_dim * real(rope, factor, default_share))
    else:
        refuse({**config, **rope}, factor, allowed=(1, None), default=None)
    theta = real(_given(rope, "rope_theta") or _given(config, "rope_theta"), "rope_theta", default_theta)
    return Rotary(theta, _scaling(config, rope), None if dims == head_dim else dims)


def _scaling(config: Config, rope: Config) -> LinearScaling | Llama3Scaling | None:
    kind = rope["rope_type"] if "rope_type" in rope else rope.get("type", "default")
    match kind:
        case "default":
            return None
        case "linear":
            return LinearScaling(real(rope, "factor"))
        case "llama3":
            # As in transformers: a length beside the settings comes first, the context length last.
            original = "original_max_position_embeddings"
            length = _given(config, original) or _given(rope, original)
            return Llama3Scaling(
                real(rope, "factor"),
                real(rope, "low_freq_factor"),
                real(rope, "high_freq_factor"),
                whole(length, original) if length else whole(config, "max_position_embeddings"),
            )
        case kind:
            raise CamelidError(
                f"config.json: rope_type is {shortened(kind)}; supported: default, linear, llama3"
            )


def _rope(config: Config, default_theta: float) -> Config:
    """The rope settings: `rope_scaling` takes the place of `rope_parameters`, as in transformers.

    transformers 5 keeps one `rope_parameters`; older folders keep `rope_theta` beside `rope_scaling`. Raises
    `CamelidError` where transformers would silently compute something else than they say.
    """
    for key in ("rope_scaling", "rope_parameters"):
        if not isinstance(config.get(key), Mapping | None):
            raise CamelidError(f"config.json: {key} is {shortened(config[key])}; it must be an object")
    scaling, parameters = config.get("rope_scaling"), config.get("rope_parameters") or {}
    rope: Config = scaling or parameters
    if nested := [key for key, value in rope.items() if isinstance(value, Mapping)]:
        raise CamelidError(
            f"config.json: the rope settings hold an object for {shortened(nested[0])}; supported: "
            "one rope for "
            "all layers"
        )
    if "factor" in rope and not {"rope_type", "type"} & rope.keys():
        raise CamelidError("config.json: the rope settings have a factor, but no rope_type; add it")
    lost = parameters.get("rope_theta", default_theta)
    if (
        scaling
        and lost != default_theta
        and not (_given(scaling, "rope_theta") or _given(config, "rope_theta"))
    ):
        raise CamelidError(
            f"config.json: rope_scaling takes the place of rope_parameters, and lacks its rope_theta "
            f"{shortened(lost)}: add it to rope_scaling, or merge the two"
        )
    return rope


def _given(table: Config, key: str) -> Config:
    """The table with this key only; empty if it is missing. A null is refused, as transformers cannot use
    it."""
    if key in table and table[key] is None:
        raise CamelidError(f"config.json: {key} is null; give a number, or remove it")
    return {key: table[key]} if key in table else {}


def with_names(config: Config, names: Mapping[str, str]) -> Config:
    """The config with each key under the architecture's own name; names: from the general name to it.

    Raises `CamelidError` if both are there and differ.
    """
    found = dict(config)
    for general, own in names.items():
        value = found.get(general)
        if value is None:
            continue
        if own in found and found[own] != value:
            raise CamelidError(
                f"config.json: {own} is {shortened(found[own])} and {general}, which means the same, is "
                f"{shortened(value)}; remove one"
            )
        found[own] = value
    return found


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


ACTIVATIONS: Mapping[str, Plain] = {
    "gelu": "exact_gelu",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_fast": "gelu",
    "relu": "relu",
}
"""transformers' names of the functions of feed-forwards without a gate; written is the first."""


def activation(config: Config, key: str, default: str) -> Plain:
    """The kind of a feed-forward without a gate."""
    refuse(config, key, allowed=tuple(ACTIVATIONS), default=default)
    return ACTIVATIONS[config.get(key, default)]


def activation_name(kind: str) -> str | None:
    """transformers' name of a feed-forward's function; None if it has a gate."""
    return next((name for name, own in ACTIVATIONS.items() if own == kind), None)


def head_size(hidden: int, heads: int) -> int:
    """The width of a head where all heads together have that of the model."""
    if hidden % heads:
        raise CamelidError(f"config.json: the width {hidden} is not a multiple of the {heads} heads")
    return hidden // heads


def dropout(config: Config, keys: tuple[str, ...], default: float) -> float:
    """The one dropout probability of all keys."""
    found = {share(config, key, default) for key in keys}
    if len(found) > 1:
        raise CamelidError(f"config.json: {', '.join(keys)} differ; supported: one value for all")
    return found.pop()


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
