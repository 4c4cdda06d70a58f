"""What a GGUF file of one architecture says, as a `ModelSpec` and our parameters: its keys, its names, its layout.

Errors name the key or tensor; the caller adds the file.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from camelid.errors import CamelidError
from camelid.model.checkpoint import blank_model
from camelid.model.gguf import GGUFFile, StoredTensor
from camelid.model.gguf_types import Floats
from camelid.model.rotary import inverse_frequencies
from camelid.model.spec import FeedForward, LinearScaling, Llama3Scaling, ModelSpec, Norm, Rotary

ARCHITECTURES = ("llama",)
OUTER_NAMES = {
    "embed_tokens.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
BLOCK_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
ROPE_FACTORS = "rope_freqs.weight"
PUBLISHED_LLAMA3_SCALINGS = (Llama3Scaling(8.0, 1.0, 4.0, 8192), Llama3Scaling(32.0, 1.0, 4.0, 8192))
"""Llama 3.1 and 3.2, as their config.json files have them; a GGUF keeps only the factors that follow from them."""


def read_spec(file: GGUFFile) -> ModelSpec:
    """The model that the file holds; raises `CamelidError` that names the key which is missing or unsupported."""
    _refuse_unsupported(file)
    hidden, heads = _whole(file, "embedding_length"), _whole(file, "attention.head_count")
    if "attention.key_length" not in _keys(file) and hidden % heads:
        raise CamelidError(
            f"llama.embedding_length {hidden} is not a multiple of llama.attention.head_count {heads}"
        )
    head_dim = _whole(file, "attention.key_length", hidden // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        _expect(file, key, head_dim, "another head size than the keys' is unsupported")
    return ModelSpec(
        vocab_size=_stored(file, "token_embd.weight").shape[0],
        hidden_size=hidden,
        num_layers=_whole(file, "block_count"),
        num_heads=heads,
        num_kv_heads=_whole(file, "attention.head_count_kv", heads),
        head_dim=head_dim,
        context_length=_whole(file, "context_length"),
        feed_forward=FeedForward(
            _whole(file, "feed_forward_length"), bias="blk.0.ffn_gate.bias" in file.tensors
        ),
        positions=_rotary(file, head_dim),
        norm=Norm(eps=_real(file, "attention.layer_norm_rms_epsilon")),
        tie_embeddings=_is_tied(file),
        attention_bias="all" if "blk.0.attn_q.bias" in file.tensors else "none",
    )


def read_parameters(file: GGUFFile, spec: ModelSpec) -> Iterator[tuple[str, Tensor]]:
    """Our parameters by name in float32, one at a time; raises where the file's tensors are not exactly those."""
    model = blank_model(spec, sum(math.prod(tensor.shape) for tensor in file.tensors.values()))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = {name: _name_in_file(name) for name in shapes}
    _check_tensors(file, {expected[name]: shape for name, shape in shapes.items()})
    heads = {"q_proj": spec.num_heads, "k_proj": spec.num_kv_heads}
    for name, stored in expected.items():
        values = file.tensor(stored)
        if (owner := name.split(".")[-2]) in heads:
            values = _halves_from_pairs(values, heads[owner])
        yield name, torch.from_numpy(values)


def _halves_from_pairs(values: Floats, heads: int) -> Floats:
    """ggml rotates neighbouring pairs of a head's rows, Hugging Face its halves: (pair, 2) becomes (2, pair)."""
    pairs = values.reshape(heads, -1, 2, *values.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)


def _name_in_file(parameter: str) -> str:
    if parameter in OUTER_NAMES:
        return OUTER_NAMES[parameter]
    _, layer, *module, kind = parameter.split(".")
    return f"blk.{layer}.{BLOCK_NAMES['.'.join(module)]}.{kind}"


def _check_tensors(file: GGUFFile, expected: dict[str, tuple[int, ...]]) -> None:
    for name, shape in expected.items():
        if (found := _stored(file, name).shape) != shape:
            raise CamelidError(f"tensor {name!r} is {list(found)}; the file's own keys ask for {list(shape)}")
    known = {*expected, ROPE_FACTORS, "output.weight"}
    if foreign := sorted(file.tensors.keys() - known):
        raise CamelidError(
            f"{len(foreign)} tensors that no supported llama model has, the first {foreign[0]!r}"
        )


def _refuse_unsupported(file: GGUFFile) -> None:
    if (architecture := file.metadata.get("general.architecture")) not in ARCHITECTURES:
        raise CamelidError(f"general.architecture is {architecture!r}; supported: {', '.join(ARCHITECTURES)}")
    if not file.tensors:
        raise CamelidError("a vocabulary without tensors; there is no model to import")
    if (parts := file.metadata.get("split.count", 1)) not in (0, 1):
        raise CamelidError(
            f"one of {parts} parts; join them first: llama-gguf-split --merge FIRST_PART OUT.gguf"
        )
    _expect(file, "expert_count", 0, "mixtures of experts are unsupported")


def _is_tied(file: GGUFFile) -> bool:
    """No output matrix, or one that repeats the embedding bit for bit, as some converters write it."""
    if "output.weight" not in file.tensors:
        return True
    output, embedding = file.tensors["output.weight"], _stored(file, "token_embd.weight")
    same_form = (output.shape, output.format) == (embedding.shape, embedding.format)
    return same_form and np.array_equal(file.raw(output.name), file.raw(embedding.name))


def _rotary(file: GGUFFile, head_dim: int) -> Rotary:
    theta = _real(file, "rope.freq_base", 10000.0)
    kind = _keys(file).get("rope.scaling.type", "none")
    factor = _real(file, "rope.scaling.factor", _real(file, "rope.scale_linear", 1.0))
    if kind not in ("none", "linear"):
        raise CamelidError(f"llama.rope.scaling.type is {kind!r}; supported: none, linear")
    if ROPE_FACTORS in file.tensors:
        return Rotary(theta, _llama3_scaling(file, theta, head_dim))
    return Rotary(theta, LinearScaling(factor) if factor not in (0.0, 1.0) else None)


def _llama3_scaling(file: GGUFFile, theta: float, head_dim: int) -> Llama3Scaling:
    factors = torch.from_numpy(file.tensor(ROPE_FACTORS))
    plain = inverse_frequencies(Rotary(theta), head_dim)
    for scaling in PUBLISHED_LLAMA3_SCALINGS:
        scaled = inverse_frequencies(Rotary(theta, scaling), head_dim)
        if factors.shape == plain.shape and torch.allclose(plain / factors, scaled, rtol=1e-5, atol=0):
            return scaling
    raise CamelidError(
        f"{ROPE_FACTORS} holds frequency factors of neither Llama 3.1 nor 3.2; "
        "import the model from its Hugging Face folder, which says how they are made"
    )


def _keys(file: GGUFFile) -> dict[str, Any]:
    """The architecture's own keys, without its name before them."""
    return {key[6:]: value for key, value in file.metadata.items() if key.startswith("llama.")}


def _whole(file: GGUFFile, key: str, default: int | None = None) -> int:
    value = _keys(file).get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CamelidError(f"llama.{key} is {value!r}; a whole number above 0 is needed")
    return value


def _real(file: GGUFFile, key: str, default: float | None = None) -> float:
    value = _keys(file).get(key, default)
    if not isinstance(value, float | int) or isinstance(value, bool):
        raise CamelidError(f"llama.{key} is {value!r}; a number is needed")
    # A float32 key is the nearest one to the decimal that the author wrote, which is the shortest that gives it.
    single = np.float32(value)
    return float(str(single)) if single == value else float(value)


def _expect(file: GGUFFile, key: str, wanted: int, why: str) -> None:
    if (value := _keys(file).get(key, wanted)) != wanted:
        raise CamelidError(f"llama.{key} is {value!r}, not {wanted}: {why}")


def _stored(file: GGUFFile, name: str) -> StoredTensor:
    if name not in file.tensors:
        raise CamelidError(f"tensor {name!r} is missing; convert or fetch the file again")
    return file.tensors[name]
