"""GGUF's architecture `llama`: LLaMA 1 to 3.2 and models with the same structure."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from camelid.base.errors import CamelidError, shortened
from camelid.formats.gguf.architecture import EMBEDDING, Architecture, Keys, sizes
from camelid.formats.names import LLAMA_NAMES, Naming
from camelid.model.rotary import inverse_frequencies
from camelid.model.spec import FeedForward, LinearScaling, Llama3Scaling, ModelSpec, Norm, Rotary

NAMING = Naming(LLAMA_NAMES, "gguf", pairs=True)
"""ggml rotates neighbouring rows of a head; ours are half a head apart."""
ROPE_FACTORS = "rope_freqs.weight"
PUBLISHED_LLAMA3_SCALINGS = (Llama3Scaling(8.0, 1.0, 4.0, 8192), Llama3Scaling(32.0, 1.0, 4.0, 8192))
"""The rope scaling of Llama 3.1 and 3.2 in config.json; a GGUF keeps only the resulting factors."""


def _read(keys: Keys) -> ModelSpec:
    keys.expect("expert_count", 0, "mixtures of experts are unsupported")
    keys.expect("attention.causal", True, "non-causal attention is unsupported")
    head_dim = keys.whole("attention.key_length", keys.head_dim())
    for key in ("attention.value_length", "rope.dimension_count"):
        keys.expect(key, head_dim, "a separate head size for values or rotation is unsupported")
    heads = keys.whole("attention.head_count")
    tensors = keys.file.tensors
    return ModelSpec(
        vocab_size=keys.stored(EMBEDDING).shape[0],
        hidden_size=keys.whole("embedding_length"),
        num_layers=keys.whole("block_count"),
        num_heads=heads,
        num_kv_heads=keys.whole("attention.head_count_kv", heads),
        head_dim=head_dim,
        context_length=keys.whole("context_length"),
        feed_forward=FeedForward(
            keys.whole("feed_forward_length"), bias=NAMING.name("layers.0.mlp.gate_proj.bias") in tensors
        ),
        positions=_rotary(keys, head_dim),
        norm=Norm(eps=keys.real("attention.layer_norm_rms_epsilon")),
        tie_embeddings=keys.is_tied(),
        attention_bias="all" if NAMING.name("layers.0.self_attn.q_proj.bias") in tensors else "none",
    )


def _rotary(keys: Keys, head_dim: int) -> Rotary:
    theta = keys.real("rope.freq_base", 10000.0)
    keys.expect("rope.scaling.attn_factor", 1, "scaling attention besides the frequencies is unsupported")
    kind = keys.get("rope.scaling.type", "linear")
    factor = keys.real("rope.scaling.factor", keys.real("rope.scale_linear", 1.0))
    if kind not in ("none", "linear"):
        raise CamelidError(f"llama.rope.scaling.type is {shortened(kind)}; supported: none, linear")
    # In llama.cpp a factor of 0 means no scaling, and type `none` ignores the factor.
    linear = kind == "linear" and factor not in (0.0, 1.0)
    if ROPE_FACTORS not in keys.file.tensors:
        return Rotary(theta, LinearScaling(factor) if linear else None)
    if linear:
        raise CamelidError(
            f"llama.rope.scaling.factor is {factor:g} together with {ROPE_FACTORS}; only one of the "
            "two scalings is supported: "
            "the factor must be 1 or absent"
        )
    return Rotary(theta, _llama3_scaling(keys, theta, head_dim))


def _llama3_scaling(keys: Keys, theta: float, head_dim: int) -> Llama3Scaling:
    factors = torch.from_numpy(keys.file.tensor(ROPE_FACTORS))
    plain = inverse_frequencies(Rotary(theta), head_dim)
    for scaling in PUBLISHED_LLAMA3_SCALINGS:
        scaled = inverse_frequencies(Rotary(theta, scaling), head_dim)
        if factors.shape == plain.shape and torch.allclose(plain / factors, scaled, rtol=1e-5, atol=0):
            return scaling
    raise CamelidError(
        f"{ROPE_FACTORS} does not hold the frequency factors of Llama 3.1 or 3.2; "
        "import the model from its Hugging Face folder, which defines the scaling"
    )


def _write(spec: ModelSpec) -> dict[str, Any]:
    assert isinstance(spec.positions, Rotary)  # `_holds` gives no others
    scaling = spec.positions.scaling
    linear = (
        {"rope.scaling.type": "linear", "rope.scaling.factor": scaling.factor}
        if isinstance(scaling, LinearScaling)
        else {}
    )
    return {
        "vocab_size": spec.vocab_size,
        **sizes(spec),
        "attention.head_count_kv": spec.num_kv_heads,
        "attention.key_length": spec.head_dim,
        "attention.value_length": spec.head_dim,
        "attention.layer_norm_rms_epsilon": spec.norm.eps,
        "rope.dimension_count": spec.head_dim,
        "rope.freq_base": spec.positions.theta,
        **linear,
    }


def _extra(spec: ModelSpec) -> dict[str, Tensor]:
    """Llama 3.1's scaling as the factors that frequencies are divided by."""
    assert isinstance(spec.positions, Rotary)
    if not isinstance(spec.positions.scaling, Llama3Scaling):
        return {}
    plain = inverse_frequencies(Rotary(spec.positions.theta), spec.head_dim)
    return {ROPE_FACTORS: plain / inverse_frequencies(spec.positions, spec.head_dim)}


def _holds(spec: ModelSpec) -> ModelSpec:
    return ModelSpec(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        num_layers=spec.num_layers,
        num_heads=spec.num_heads,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim + spec.head_dim % 2,
        context_length=spec.context_length,
        feed_forward=FeedForward(spec.feed_forward.width, bias=spec.feed_forward.bias),
        positions=replace(spec.positions, dims=None) if isinstance(spec.positions, Rotary) else Rotary(),
        norm=Norm(eps=spec.norm.eps),
        tie_embeddings=spec.tie_embeddings,
        attention_bias="all" if spec.attention_bias == "all" else "none",
    )


LLAMA = Architecture("llama", NAMING, _write, _holds, _read, _extra, ignored=(ROPE_FACTORS,))
