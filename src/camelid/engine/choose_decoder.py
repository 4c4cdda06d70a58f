"""Which decoder computes a model: the one in C, the one for GPUs, or the model's own forward pass."""

import logging
import time
from functools import cache as cached

import torch

from camelid.base.errors import WrongCall
from camelid.base.memory import free_memory
from camelid.engine.blocks import BLOCK_TOKENS, CachedSequence
from camelid.engine.decoder import Decoder, Extension, TorchDecoder
from camelid.engine.encoder_decoder import EncoderDecoder
from camelid.engine.graphs import GraphDecoder
from camelid.engine.native.build import NoCompilerError
from camelid.engine.native.decoder import NativeDecoder, block_bytes, supports, tuned
from camelid.model.transformer import Transformer
from camelid.recipes.engine import CacheKind

TRIAL_PROMPT = 32
"""Tokens of the prompt with which decoders are timed."""

logger = logging.getLogger(__name__)


def choose_decoder(
    model: Transformer,
    dtype: torch.dtype,
    tokens: int,
    cache: CacheKind,
    *,
    start_id: int,
    native: bool,
    compiled: bool,
) -> Decoder:
    """The fastest decoder for a model on its device; the settings are those of
    `camelid.engine.engine.Engine`.

    start_id: what answers of a model with an encoder begin with. Raises `WrongCall` where none has such a
    cache.
    """
    if model.encoder is not None:
        return EncoderDecoder(model, dtype, tokens, start_id)
    if native and supports(model, dtype):
        try:
            if tuned() or cache != "whole" or _native_is_faster(model, dtype):
                return NativeDecoder(model, dtype, tokens, cache)
        except NoCompilerError as reason:
            warn_once(f"{reason}; generating with torch, which is slower")
    device = model.embed_tokens.weight.device
    if cache != "whole":
        raise WrongCall(
            f"an 8-bit cache needs the decoder in C, which does not support this model on {device.type}"
        )
    if device.type == "cuda":
        return GraphDecoder(model, dtype, tokens, compiled=compiled)
    return TorchDecoder(model, dtype, tokens)


def _native_is_faster(model: Transformer, dtype: torch.dtype) -> bool:
    """Times a prompt and two more tokens with the decoder in C and with torch, and says which is used."""
    if model.spec.context_length < 4:
        return True
    native, by_torch = (
        _seconds(kind(model, dtype, 2 * TRIAL_PROMPT)) for kind in (NativeDecoder, TorchDecoder)
    )
    faster, slower = ("the decoder in C", "torch") if native <= by_torch else ("torch", "the decoder in C")
    ratio = max(native, by_torch) / min(native, by_torch)
    logger.info(f"generating with {faster}, {ratio:.1f} times as fast as {slower} on this processor")
    return native <= by_torch


def _seconds(decoder: Decoder) -> float:
    """The time of a short prompt and two more tokens, the second time that they are computed."""
    length = min(TRIAL_PROMPT, decoder.spec.context_length - 2)
    prompt = [index % decoder.spec.vocab_size for index in range(length)]
    for _ in range(2):
        sequence = CachedSequence(decoder.pool)
        began = time.perf_counter()
        for tokens in (prompt, [0], [0]):
            decoder.extend([Extension(sequence, tokens, 1)])
        seconds = time.perf_counter() - began
        sequence.truncate(0)
    return seconds


def fitting_tokens(model: Transformer, dtype: torch.dtype, cache: CacheKind, most: int) -> int:
    """Tokens whose keys and values fit into half of the free memory, at most `most`, at least a block's."""
    each = -(-block_bytes(model.spec, dtype, cache) // BLOCK_TOKENS)
    free = free_memory(model.embed_tokens.weight.device)
    return max(BLOCK_TOKENS, min(most, free // 2 // each))


@cached
def warn_once(text: str) -> None:
    """Logs a warning, the same once a process."""
    logger.warning(text)
