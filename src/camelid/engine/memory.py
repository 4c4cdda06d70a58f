"""Whether a model and its key-value cache fit into memory, and what would, before any weight is read.

Weights (`camelid.engine.weight_memory`) and cache are what will be allocated, to the byte. Working memory is
an estimate from above of one pass, the logits, and what a decoder or the unpacking of packed weights needs
beside them.
"""

import logging
from bisect import bisect_right
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from camelid.base.errors import CamelidError, WrongCall, naming
from camelid.base.memory import free_memory
from camelid.engine.blocks import BLOCK_TOKENS
from camelid.engine.device import CPU, GPU_STEP_TOKENS, STEP_TOKENS
from camelid.engine.native.decoder import CHUNK_ROWS, block_bytes, knows
from camelid.engine.weight_memory import (
    SMALLER_DTYPE,
    WeightMemory,
    folder_weights,
    plain_weights,
    quantized_weights,
)
from camelid.formats.gguf.families import read_spec as read_gguf_spec
from camelid.formats.gguf.file import GGUFFile
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_spec
from camelid.formats.hugging_face.tensor_files import dtype_name
from camelid.model.blocked_attention import QUERY_BLOCK
from camelid.model.spec import ModelSpec, RelativeBuckets

logger = logging.getLogger(__name__)

SMALLER_BITS = (8, 4, 3, 2)


@dataclass(frozen=True)
class Need:
    """Bytes that a model in one precision needs for `context` tokens of each sequence."""

    weights: WeightMemory
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

    dtype: of weights that are not packed, activations and cache. context: tokens of each of `sequences`, by
    default the model's own. free: bytes, by default what the device has. The smaller ones are what `camelid
    quantize` makes of the model, with groups of its own choice, and bfloat16 where the model is in float32.
    Raises `WrongCall` for a context that the model does not have, `CamelidError` where the folder is damaged.
    """
    spec, weights = _loaded(model, dtype, device)
    context = spec.context_length if context is None else context
    if not 1 <= context <= spec.context_length:
        raise WrongCall(f"a context of {context} tokens; the model has 1 to {spec.context_length}")
    if sequences < 1:
        raise WrongCall(f"{sequences} sequences; at least 1 is needed")
    free = free_memory(device) if free is None else free
    asked = _need(spec, weights, dtype, context, sequences, free, device)
    smaller = [
        _need(spec, each, SMALLER_DTYPE, context, sequences, free, device)
        for each in _smaller(spec, weights, device)
    ]
    return Plan(free, sequences, asked, tuple(smaller), 4 * spec.parameter_count())


def refuse_too_large(folder: Path, dtype: torch.dtype, device: torch.device = CPU) -> None:
    """Raises `CamelidError` where the model cannot run on the device even for one token; to be called before
    it is loaded.

    Weights that stay in the file can be dropped and read again, so they alone are no reason; it is said on
    standard error that this is slow.
    """
    spec, weights = _loaded(folder, dtype, device)
    if _need(spec, weights, dtype, 1, 1, free_memory(device), device).fits:
        return
    found = plan(folder, dtype, context=1, device=device)
    asked, weights = found.asked, found.asked.weights
    says = f"its weights take {gigabytes(weights.size)} in {dtype_name(dtype)}, "
    says += f"a step {gigabytes(asked.total - weights.size)} more, and {gigabytes(found.free)} are free"
    out = "; ".join(
        (*ways_out(found, str(folder)), *([] if device == CPU else ["the CPU may: --device cpu"]))
    )
    if asked.total - weights.mapped > found.free:
        raise CamelidError(f"{folder} does not fit into memory: {says}; {out}")
    logger.warning(
        f"{folder} does not fit into memory: {says}. Every token reads weights from the disk again; {out}"
    )


def _loaded(
    model: Path | ModelSpec, dtype: torch.dtype, device: torch.device
) -> tuple[ModelSpec, WeightMemory]:
    spec = model if isinstance(model, ModelSpec) else spec_of(model)
    if isinstance(model, Path) and model.is_dir():
        weights = folder_weights(model, spec, dtype, device)
    else:
        weights = plain_weights(spec, dtype)
    # A GPU has its own copy of what a file holds.
    return spec, weights if device.type == "cpu" else replace(weights, mapped=0)


def spec_of(model: Path) -> ModelSpec:
    """The spec of a checkpoint folder or GGUF file; raises `CamelidError` where it is neither."""
    if model.suffix == ".gguf" and not model.is_dir():
        source = GGUFFile(model)
        with naming(model):
            return read_gguf_spec(source)
    return read_spec(resolve(model))


def _smaller(spec: ModelSpec, weights: WeightMemory, device: torch.device) -> list[WeightMemory]:
    found = [plain_weights(spec, SMALLER_DTYPE)] if weights.bits > 16 else []
    for bits in SMALLER_BITS:
        if bits < weights.bits:
            try:
                found.append(quantized_weights(spec, bits, device=device))
            except CamelidError:
                continue  # not a model of this layout, or sizes that do not fill its packed integers
    return found


def _need(
    spec: ModelSpec,
    weights: WeightMemory,
    dtype: torch.dtype,
    context: int,
    sequences: int,
    free: int,
    device: torch.device,
) -> Need:
    def need(context: int, longest: int = 0) -> Need:
        size = cache_bytes(spec, dtype, context, sequences, device)
        step = _step_bytes(spec, dtype, context, sequences, device)
        working = weights.beside + max(step, weights.loading)
        return Need(weights, dtype, size, working, context, longest)

    longest = bisect_right(range(1, spec.context_length + 1), free, key=lambda each: need(each).total)
    return need(context, longest)


def cache_bytes(
    spec: ModelSpec, dtype: torch.dtype, context: int, sequences: int, device: torch.device = CPU
) -> int:
    """The key-value cache of `sequences` of `context` tokens; with an encoder, of as long a source and answer
    each.

    Every sequence takes whole blocks, in `dtype` (an 8-bit cache takes less).
    """
    blocks = sequences * -(-context // BLOCK_TOKENS)
    if knows(spec, dtype, device):
        return block_bytes(spec, dtype) * blocks
    # torch has one more block, where padding goes.
    token = spec.kv_bytes_per_token(dtype.itemsize)
    return token * BLOCK_TOKENS * (blocks + 1) + _source_bytes(spec, dtype, context, sequences)


def _source_bytes(spec: ModelSpec, dtype: torch.dtype, context: int, sequences: int) -> int:
    """What all layers make of the texts that an encoder has read."""
    return spec.kv_bytes_per_token(dtype.itemsize) * context * sequences if spec.encoder_layers else 0


def _step_bytes(
    spec: ModelSpec, dtype: torch.dtype, context: int, sequences: int, device: torch.device
) -> int:
    """The activations of one pass over a prompt in float32, and the logits with their probabilities.

    The decoder in C takes long prompts in chunks. torch also needs `_attending_bytes`, and it brings the
    blocks of a layer together, and the sources of a batch, while it may still hold those of the batch before.
    """
    native = knows(spec, dtype, device)
    rows = min(context, CHUNK_ROWS) if native else context
    heads = (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim
    activations = 4 * rows * (4 * spec.hidden_size + 3 * spec.feed_forward.width + 2 * heads)
    step = activations + 8 * sequences * spec.vocab_size
    if native:
        return step
    gathered = cache_bytes(spec, dtype, context, sequences, device) // spec.num_layers
    if device.type != "cpu":
        # The graphs of steps have memory of their own, and prompts repeat shared keys for every head, see
        # `attention`.
        repeated = spec.num_heads // spec.num_kv_heads if spec.num_heads > spec.num_kv_heads else 0
        gathered *= 2 + repeated
    attending = _attending_bytes(spec, dtype, context, sequences, device)
    return step + attending + gathered + 2 * _source_bytes(spec, dtype, context, sequences)


def _attending_bytes(
    spec: ModelSpec, dtype: torch.dtype, context: int, sequences: int, device: torch.device
) -> int:
    """What torch writes down of who sees whom.

    With relative positions the scores of a layer, their bias and their softmax; else a mask, in `dtype` and
    as it is made, for the tokens of one step, padded to up to twice as many; and on a CPU, for a prompt that
    nothing precedes, the scores of a block of queries.
    """
    if isinstance(spec.positions, RelativeBuckets):
        return context * context * 16 * spec.num_heads
    on_cpu = device.type == "cpu"
    tokens = min(context * sequences, 2 * (STEP_TOKENS if on_cpu else GPU_STEP_TOKENS))
    mask = tokens * context * (2 + dtype.itemsize)
    scores = 2 * dtype.itemsize * spec.num_heads * QUERY_BLOCK * max(context, tokens)
    return max(mask, scores) if on_cpu else mask


def ways_out(found: Plan, model: str) -> list[str]:
    """What would fit in place of what was asked for, each with its command or flag."""
    ways = []
    if found.asked.longest and not found.fits:
        ways.append(f"up to {found.asked.longest:,} tokens fit: --context {found.asked.longest}")
    for need in found.smaller:
        bits, size = need.weights.bits, f"{gigabytes(need.weights.size)} of weights, {need.longest:,} tokens"
        if need.fits and bits == 16:
            ways.append(f"{dtype_name(need.dtype)} fits ({size}): --dtype {dtype_name(need.dtype)}")
        elif need.fits:
            ways.append(f"{bits} bits fit ({size}): camelid quantize {model} OUT --bits {bits}")
            if found.quantizing > found.free:
                ways.append(f"quantising takes {gigabytes(found.quantizing)}, so do it where these are free")
            break
    shorter = max(found.smaller, key=lambda need: need.longest, default=found.asked)
    if not ways and shorter.longest:
        context = f"{shorter.longest:,} tokens at {shorter.weights.bits} bits"
        ways.append(
            f"{context} fit: camelid quantize {model} OUT --bits {shorter.weights.bits}, "
            f"and --context {shorter.longest}"
        )
    return ways or ["nothing smaller does: take a smaller model, fewer sequences or more memory"]


def gigabytes(size: int) -> str:
    """Bytes for people: GB, and MB below one tenth of it."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
