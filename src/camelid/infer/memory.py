"""Whether a model and its key-value cache fit into memory, and what would, before any weight is read.

Weights and cache are what will be allocated, to the byte. Working memory is an estimate from above of one pass, the
logits, and what a decoder or the loading of packed weights needs beside them.
"""

import sys
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from camelid.errors import CamelidError, WrongCall, naming
from camelid.infer.free_memory import CPU, free_memory
from camelid.infer.native.decoder import CHUNK_ROWS, supports
from camelid.infer.native.weights import LEAST_BITS
from camelid.model.checkpoint import blank_model, check_belong_together, read_config, read_spec, read_tensors
from camelid.model.gguf import GGUFFile
from camelid.model.gguf_families import read_spec as read_gguf_spec
from camelid.model.hub import resolve
from camelid.model.spec import ModelSpec, RelativeBuckets
from camelid.model.surgery import linears, select
from camelid.quant.quantize import ALL_LINEARS, fitting_group
from camelid.quant.storage import check_quantizable, stored_sizes

SMALLER_BITS = (8, 4, 3, 2)
SMALLER_DTYPE = torch.bfloat16
"""In which `camelid quantize` stores all that is not packed, and in which the engine then computes."""
UNPACKING = 8
"""Bytes for each weight of the largest linear while its codes are unpacked and packed again."""


@dataclass(frozen=True)
class Weights:
    """Bytes of a model's weights as they are loaded."""

    bits: int
    """Of a weight of the layers' linears."""
    size: int
    mapped: int = 0
    """Part of `size` that stays in the file, since it is stored in the dtype asked for. It is needed all the same, for
    every token reads all of it, but where memory is short the system drops it and reads it again, slowly."""
    loading: int = 0
    """What is needed beside while they are loaded."""
    beside: int = 0
    """What a decoder keeps in another form."""


@dataclass(frozen=True)
class Need:
    """Bytes that a model in one precision needs for `context` tokens of each sequence."""

    weights: Weights
    dtype: torch.dtype
    cache: int
    working: int
    context: int
    longest: int
    """The longest context that fits with as many sequences; 0 where none does."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights.size + self.cache + self.working

    @property
    def fits(self) -> bool:
        """Whether the context asked for fits."""
        return self.context <= self.longest


@dataclass(frozen=True)
class Plan:
    """What was asked for, and the same model made smaller, from more bits to fewer."""

    free: int
    sequences: int
    asked: Need
    smaller: tuple[Need, ...]
    quantizing: int
    """What `camelid quantize` needs to make the smaller ones: all weights in float32."""

    @property
    def fits(self) -> bool:
        """Whether what was asked for fits."""
        return self.asked.fits


def plan(
    model: Path | ModelSpec,
    dtype: torch.dtype,
    *,
    context: int | None = None,
    sequences: int = 1,
    free: int | None = None,
    device: torch.device = CPU,
) -> Plan:
    """What `model` (a checkpoint folder, a GGUF file to be imported, or a spec) needs, beside what is free.

    dtype: of weights that are not packed, activations and cache. context: tokens of each of `sequences`, by default the
    model's own. free: bytes, by default what the device has. The smaller ones are what `camelid quantize` makes of the
    model, with groups of its own choice, and bfloat16 where the model is in float32. Raises `WrongCall` for a context
    that the model does not have, `CamelidError` where the folder is damaged.
    """
    spec, weights = _loaded(model, dtype, device)
    context = spec.context_length if context is None else context
    if not 1 <= context <= spec.context_length:
        raise WrongCall(f"a context of {context} tokens; the model has 1 to {spec.context_length}")
    if sequences < 1:
        raise WrongCall(f"{sequences} sequences; at least 1 is needed")
    free = free_memory(device) if free is None else free
    asked = _need(spec, weights, dtype, context, sequences, free)
    smaller = [_need(spec, each, SMALLER_DTYPE, context, sequences, free) for each in _smaller(spec, weights)]
    return Plan(free, sequences, asked, tuple(smaller), 4 * spec.parameter_count())


def refuse_too_large(folder: Path, dtype: torch.dtype) -> None:
    """Raises `CamelidError` where the model cannot run here even for one token; to be called before it is loaded.

    Weights that stay in the file can be dropped and read again, so they alone are no reason; it is said on standard
    error that this is slow.
    """
    spec, weights = _loaded(folder, dtype, CPU)
    if _need(spec, weights, dtype, 1, 1, free_memory()).fits:
        return
    found = plan(folder, dtype, context=1)
    asked, weights = found.asked, found.asked.weights
    says = f"its weights take {gigabytes(weights.size)} in {name_of(dtype)}, "
    says += f"a step {gigabytes(asked.total - weights.size)} more, and {gigabytes(found.free)} are free"
    out = "; ".join(ways_out(found, str(folder)))
    if asked.total - weights.mapped > found.free:
        raise CamelidError(f"{folder} does not fit into memory: {says}; {out}")
    print(
        f"camelid: {folder} does not fit into memory: {says}. Every token reads weights from the disk again; {out}",
        file=sys.stderr,
    )


def _loaded(model: Path | ModelSpec, dtype: torch.dtype, device: torch.device) -> tuple[ModelSpec, Weights]:
    spec = model if isinstance(model, ModelSpec) else spec_of(model)
    if isinstance(model, Path) and model.is_dir():
        weights = folder_weights(model, spec, dtype)
    else:
        weights = plain_weights(spec, dtype)
    return spec, weights if device.type == "cpu" else replace(weights, mapped=0)


def spec_of(model: Path) -> ModelSpec:
    """The spec of a checkpoint folder or GGUF file; raises `CamelidError` where it is neither."""
    if model.suffix == ".gguf" and not model.is_dir():
        source = GGUFFile(model)
        with naming(model):
            return read_gguf_spec(source)
    return read_spec(resolve(model))


def plain_weights(spec: ModelSpec, dtype: torch.dtype, stored: int = 0) -> Weights:
    """All parameters in `dtype`, a tied embedding once; stored: bytes of them that a file has in this dtype."""
    size = spec.parameter_count() * dtype.itemsize
    return Weights(8 * dtype.itemsize, size, min(size, stored))


def folder_weights(folder: Path, spec: ModelSpec, dtype: torch.dtype) -> Weights:
    """Those of a checkpoint folder, from its config.json and the headers of its tensor files."""
    tensors = read_tensors(folder)
    with naming(folder):
        check_belong_together(spec, stored_sizes(tensors))
    if "quantization_config" not in read_config(folder):
        stored = sum(tensor.nbytes for tensor in tensors.values() if tensor.dtype == dtype)
        return plain_weights(spec, dtype, stored)
    return _packed_in_folder(spec, tensors, dtype)


def quantized_weights(spec: ModelSpec, bits: int, dtype: torch.dtype = SMALLER_DTYPE) -> Weights:
    """What `camelid quantize --bits` makes of the model, all but the codes in `dtype`.

    Raises `CamelidError` where it would.
    """
    check_quantizable(spec)
    # One layer without memory: the linears and their choice are those of the model itself.
    layer = linears(blank_model(replace(spec, num_layers=1, vocab_size=1)))
    chosen = {path: layer[path] for path in select(layer, ALL_LINEARS)}
    group = fitting_group({path: linear.weight.shape for path, linear in chosen.items()}, bits)
    parts = [
        (*linear.weight.shape, dict(linear.named_parameters()).get("bias")) for linear in chosen.values()
    ]
    codes = sum(outer * inner for outer, inner, _ in parts)
    groups = sum(outer * (1 if group == -1 else inner // group) for outer, inner, _ in parts)
    biases = sum(0 if bias is None else outer for outer, _, bias in parts)
    layers = spec.num_layers
    words = layers * codes * bits // 8
    packed = codes * bits // 8 + biases * dtype.itemsize
    rest = (spec.parameter_count() - layers * (codes + biases)) * dtype.itemsize
    # A scale in the stored dtype and a byte of zero point for every group.
    size = rest + layers * (packed + groups * (dtype.itemsize + 1))
    beside = _beside(spec, bits, dtype, layers * codes, layers * groups)
    largest = max(outer * inner for outer, inner, _ in parts)
    return Weights(bits, size, rest + words, UNPACKING * largest if bits < LEAST_BITS else 0, beside)


def _packed_in_folder(spec: ModelSpec, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Weights:
    packed = stored = words = values = weights = groups = largest = 0
    bits = 8
    for name, tensor in tensors.items():
        if not name.endswith(".qweight"):
            continue
        module = name.removesuffix("qweight")
        scales, order = tensors.get(module + "scales"), tensors.get(module + "g_idx")
        if scales is None or not tensor.numel() or not scales.numel():
            continue  # loading says what is missing
        # AWQ has no index, and a row of words for each input.
        outer, inner = scales.shape[-1], tensor.shape[0] if order is None else max(1, order.numel())
        bits = max(1, 8 * tensor.nbytes // (outer * inner))
        packed += tensor.nbytes + scales.nbytes + scales.numel()
        words += tensor.nbytes if order is not None else 0
        values, weights, groups = values + outer * inner, weights + outer * inner, groups + scales.numel()
        # AWQ's words are brought into the order of GPTQ's, which is the order that we compute from.
        largest = max(largest, outer * inner if order is None or bits < LEAST_BITS else 0)
        if (bias := tensors.get(module + "bias")) is not None:
            packed, values = packed + bias.nbytes, values + bias.numel()
    stored = sum(tensor.nbytes for tensor in tensors.values() if tensor.dtype == dtype)
    rest = max(0, spec.parameter_count() - values) * dtype.itemsize
    beside = _beside(spec, bits, dtype, weights, groups)
    return Weights(bits, packed + rest, min(rest, stored) + words, UNPACKING * largest, beside)


def _beside(spec: ModelSpec, bits: int, dtype: torch.dtype, weights: int, groups: int) -> int:
    """What a decoder on the CPU keeps of packed linears beside what was loaded, in the order in which it computes."""
    if not _is_native(spec, dtype):
        # torch's kernels take 8 and 4 bits in an order of their own.
        return weights * bits // 8 if bits in (4, 8) else 0
    return weights * max(LEAST_BITS, bits) // 8 + 5 * groups


def _is_native(spec: ModelSpec, dtype: torch.dtype) -> bool:
    """Whether the decoder in C takes such a model, asked by the smallest one of its kind."""
    smallest = replace(
        spec,
        vocab_size=1,
        hidden_size=2,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_dim=2,
        context_length=1,
        feed_forward=replace(spec.feed_forward, width=1),
        encoder_layers=min(1, spec.encoder_layers),
    )
    return supports(blank_model(smallest).to_empty(device="cpu"), dtype)


def _smaller(spec: ModelSpec, weights: Weights) -> list[Weights]:
    found = [plain_weights(spec, SMALLER_DTYPE)] if weights.bits > 16 else []
    for bits in SMALLER_BITS:
        if bits < weights.bits:
            try:
                found.append(quantized_weights(spec, bits))
            except CamelidError:
                continue  # the layout has no place for this model, or its sizes are no multiples of the words'
    return found


def _need(
    spec: ModelSpec, weights: Weights, dtype: torch.dtype, context: int, sequences: int, free: int
) -> Need:
    native = _is_native(spec, dtype)

    def need(context: int, longest: int = 0) -> Need:
        cache = cache_bytes(spec, dtype, context, sequences)
        step = _step_bytes(spec, context, sequences, native)
        return Need(weights, dtype, cache, max(step + weights.beside, weights.loading), context, longest)

    longest = bisect_right(range(1, spec.context_length + 1), free, key=lambda each: need(each).total)
    return need(context, longest)


def cache_bytes(spec: ModelSpec, dtype: torch.dtype, context: int, sequences: int) -> int:
    """The key-value cache of `sequences` of `context` tokens; with an encoder, of as long a source and answer each."""
    tokens = 2 * context + 1 if spec.encoder_layers else context
    return spec.kv_bytes_per_token(dtype.itemsize) * tokens * sequences


def _step_bytes(spec: ModelSpec, context: int, sequences: int, native: bool) -> int:
    """The activations of one pass over a prompt in float32, and the logits with their probabilities.

    The decoder in C takes long prompts in chunks, torch as a whole with the mask of who sees whom, and with relative
    positions the scores of a layer, their bias and their softmax.
    """
    rows = min(context, CHUNK_ROWS) if native else context
    heads = (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim
    activations = 4 * rows * (4 * spec.hidden_size + 3 * spec.feed_forward.width + 2 * heads)
    scores = 16 * spec.num_heads if isinstance(spec.positions, RelativeBuckets) else 1
    pairs = 0 if native else rows * context * scores
    return activations + pairs + 8 * sequences * spec.vocab_size


def ways_out(found: Plan, model: str) -> list[str]:
    """What would fit in place of what was asked for, each with its command or flag."""
    ways = []
    if found.asked.longest and not found.fits:
        ways.append(f"up to {found.asked.longest:,} tokens fit: --context {found.asked.longest}")
    for need in found.smaller:
        bits, size = need.weights.bits, f"{gigabytes(need.weights.size)} of weights, {need.longest:,} tokens"
        if need.fits and bits == 16:
            ways.append(f"{name_of(need.dtype)} fits ({size}): --dtype {name_of(need.dtype)}")
        elif need.fits:
            ways.append(f"{bits} bits fit ({size}): camelid quantize {model} OUT --bits {bits}")
            if found.quantizing > found.free:
                ways.append(f"quantising takes {gigabytes(found.quantizing)}, so do it where these are free")
            break
    return ways or ["nothing smaller does: take a smaller model, fewer sequences or more memory"]


def gigabytes(size: int) -> str:
    """Bytes for people: GB, and MB below one tenth of it."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def name_of(dtype: torch.dtype) -> str:
    """The dtype's name without torch's before it."""
    return str(dtype).removeprefix("torch.")
