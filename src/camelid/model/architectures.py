"""What makes a model GPT-2, PaLM, T5 or OPT: how each architecture differs from LLaMA of the same sizes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from camelid.model.spec import FeedForward, Learned, ModelSpec, Norm, RelativeBuckets, Rotary, Window

GPT3_WINDOW = 256
"""Window of every second layer; the paper gives neither width nor stride, this is GPT-Neo's choice."""
Architecture = Literal[
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gpt2",
    "gpt3",
    "palm",
    "t5",
    "t5-v1.1",
    "gpt-j",
    "gpt-neox",
    "opt",
    "galactica",
]
Traits = Mapping[str, Any]


def _gpt2(spec: ModelSpec) -> Traits:
    return {
        "positions": Learned(),
        "norm": Norm("layer", 1e-5, bias=True),
        "feed_forward": FeedForward(4 * spec.hidden_size, "gelu", bias=True),
        "attention_bias": "all",
    }


def _gpt3(spec: ModelSpec) -> Traits:
    return {**_gpt2(spec), "window": Window(GPT3_WINDOW, tuple(range(1, spec.num_layers, 2)))}


def _palm(spec: ModelSpec) -> Traits:
    return {
        "num_kv_heads": 1,
        "norm": Norm("layer", 1e-6),
        "feed_forward": FeedForward(4 * spec.hidden_size, "swiglu"),
        "parallel": True,
        "output_scale": spec.hidden_size**-0.5,
    }


def _t5(spec: ModelSpec) -> Traits:
    return {
        "positions": RelativeBuckets(),
        "norm": Norm(eps=1e-6),
        "feed_forward": FeedForward(4 * spec.hidden_size, "relu"),
        "output_scale": spec.hidden_size**-0.5,
        "encoder_layers": spec.num_layers,
    }


def _t5_v1_1(spec: ModelSpec) -> Traits:
    width = -(-8 * spec.hidden_size // 3 // 32) * 32
    return {
        **_t5(spec),
        "feed_forward": FeedForward(width, "geglu"),
        "output_scale": 1.0,
        "tie_embeddings": False,
    }


def _gpt_j(spec: ModelSpec) -> Traits:
    return {
        "positions": _partly_rotated(spec, 64),
        "norm": Norm("layer", 1e-5, bias=True),
        "feed_forward": FeedForward(4 * spec.hidden_size, "gelu", bias=True),
        "parallel": True,
        "tie_embeddings": False,
        "output_bias": True,
    }


def _gpt_neox(spec: ModelSpec) -> Traits:
    return {
        "positions": _partly_rotated(spec, spec.head_dim // 4),
        "norm": Norm("layer", 1e-5, bias=True),
        "feed_forward": FeedForward(4 * spec.hidden_size, "exact_gelu", bias=True),
        "attention_bias": "all",
        "parallel": True,
        "separate_norms": True,
        "tie_embeddings": False,
    }


def _partly_rotated(spec: ModelSpec, dims: int) -> Rotary:
    """Rotates the first `dims` dimensions of every head, an even number; all where a head has no more."""
    dims = max(2, dims // 2 * 2)
    theta = spec.positions.theta if isinstance(spec.positions, Rotary) else 10000.0
    return Rotary(theta, dims=dims if dims < spec.head_dim else None)


def _opt(spec: ModelSpec) -> Traits:
    feed_forward = FeedForward(4 * spec.hidden_size, "relu", bias=True)
    return {**_gpt2(spec), "positions": Learned(2), "feed_forward": feed_forward}


def _galactica(spec: ModelSpec) -> Traits:
    return {
        "positions": Learned(2),
        "norm": Norm("layer", 1e-5, gain=False),
        "feed_forward": FeedForward(4 * spec.hidden_size, "exact_gelu"),
    }


TRAITS: Mapping[Architecture, Callable[[ModelSpec], Traits]] = {
    "llama": lambda spec: {},
    "mistral": lambda spec: {"window": Window(4096)},
    "qwen2": lambda spec: {"attention_bias": "qkv", "norm": Norm(eps=1e-6)},
    "qwen3": lambda spec: {"query_key_norm": True, "norm": Norm(eps=1e-6)},
    "gpt2": _gpt2,
    "gpt3": _gpt3,
    "palm": _palm,
    "t5": _t5,
    "t5-v1.1": _t5_v1_1,
    "gpt-j": _gpt_j,
    "gpt-neox": _gpt_neox,
    "opt": _opt,
    "galactica": _galactica,
}
"""How each architecture differs from LLaMA of the same sizes."""


def of_architecture(architecture: Architecture, llama: ModelSpec) -> ModelSpec:
    """The spec of this architecture with the sizes of `llama`."""
    return replace(llama, **TRAITS[architecture](llama))
