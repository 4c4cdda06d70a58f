"""Which decoder computes a model: the one in C, the one for GPUs, or the model's own forward pass."""

import logging
from functools import cache as cached

import torch

from camelid.base.errors import WrongCall
from camelid.base.memory import free_memory
from camelid.engine.blocks import BLOCK_TOKENS
from camelid.engine.decoder import Decoder, TorchDecoder
from camelid.engine.encoder_decoder import EncoderDecoder
from camelid.engine.graphs import GraphDecoder
from camelid.engine.native.build import NoCompilerError
from camelid.engine.native.decoder import NativeDecoder, block_bytes, supports
from camelid.model.transformer import Transformer
from camelid.recipes.engine import CacheKind

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
    """The fastest decoder for a model where it lies, see `camelid.engine.engine.Engine` for the settings.

    start_id: what answers of a model with an encoder begin with. Raises `WrongCall` where none has such a cache.
    """
    if model.encoder is not None:
        return EncoderDecoder(model, dtype, tokens, start_id)
    if native and supports(model, dtype):
        try:
            return NativeDecoder(model, dtype, tokens, cache)
        except NoCompilerError as reason:
            warn_once(f"{reason}; generating on torch alone, at about a third of the speed")
    device = model.embed_tokens.weight.device
    if cache != "whole":
        raise WrongCall(
            f"an 8-bit cache needs the decoder in C, which does not compute this model here (on {device.type})"
        )
    if device.type == "cuda":
        return GraphDecoder(model, dtype, tokens, compiled=compiled)
    return TorchDecoder(model, dtype, tokens)


def fitting_tokens(model: Transformer, dtype: torch.dtype, cache: CacheKind, most: int) -> int:
    """Tokens whose keys and values fit into half of the free memory, at most `most`, at least a block's."""
    each = -(-block_bytes(model.spec, dtype, cache) // BLOCK_TOKENS)
    free = free_memory(model.embed_tokens.weight.device)
    return max(BLOCK_TOKENS, min(most, free // 2 // each))


@cached
def warn_once(text: str) -> None:
    """Logs a warning, the same once a process."""
    logger.warning(text)
