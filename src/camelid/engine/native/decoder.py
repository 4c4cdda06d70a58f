"""The decoder of `decoder.c` over a `Transformer`'s weights: a whole step is one call."""

import ctypes
import weakref
from array import array
from collections.abc import Sequence
from functools import cache

import torch

from camelid.base.errors import CamelidError
from camelid.engine.blocks import BLOCK_TOKENS
from camelid.engine.decoder import Decoder, Extension, Predictions
from camelid.engine.device import CPU
from camelid.engine.native.build import library
from camelid.engine.native.pages import zero_pages
from camelid.engine.native.structures import CBatch, CLayer, CModel
from camelid.engine.native.weights import FLOAT32, KINDS, Weights, takes
from camelid.model.linears import linears
from camelid.model.rotary import inverse_frequencies, rotation
from camelid.model.spec import ModelSpec, Rotary
from camelid.model.transformer import Transformer
from camelid.recipes.engine import CacheKind

HEAD_MULTIPLE = 32
CHUNK_ROWS = 512
"""Rows of one call; longer prompts take several, which bounds the memory of a step."""


def supports(model: Transformer, dtype: torch.dtype) -> bool:
    """Whether the native decoder computes this model: on the CPU, float32 or bfloat16, linears plain or
    packed."""
    on_cpu = all(tensor.device.type == "cpu" for tensor in [*model.parameters(), *model.buffers()])
    return on_cpu and knows(model.spec, dtype) and all(map(takes, linears(model).values()))


def knows(spec: ModelSpec, dtype: torch.dtype, device: torch.device = CPU) -> bool:
    """Whether the blocks are LLaMA's on a CPU, save for biases, windows, query and key norms, in a dtype that
    is computed."""
    return (
        device.type == "cpu"
        and dtype in KINDS
        and isinstance(spec.positions, Rotary)
        and spec.positions.dims is None
        and spec.norm.kind == "rms"
        and spec.feed_forward.kind == "swiglu"
        and spec.output_scale == 1
        and not (spec.parallel or spec.encoder_layers or spec.output_bias)
    )


def tuned() -> bool:
    """Whether the decoder has products written for this processor; raises `NoCompilerError` as `library`
    does.
    """
    return bool(library().camelid_tuned())


@cache
def _arithmetic(code: ctypes.CDLL) -> int:
    """The arithmetic for bfloat16 weights, timed once: all decoders of a process compute alike."""
    return int(code.camelid_arithmetic())


class NativeDecoder(Decoder):
    """Weights that are already in `dtype` are used where they lie.

    A row's logits are the same bits whatever else is in the batch, however long prompts are cut, and whoever
    else shares the blocks. cache: `whole` keeps keys and values in `dtype`, `8-bit` rounds each head's vector
    to 8 bits.
    """

    def __init__(
        self,
        model: Transformer,
        dtype: torch.dtype,
        tokens: int,
        cache: CacheKind = "whole",
    ) -> None:
        super().__init__(model, tokens)
        code = library()
        self._step = code.camelid_step
        self._copy, self._clear = code.camelid_copy_block, code.camelid_clear_block
        self._dtype, self._kind = dtype, cache
        # [blocks, layers, keys and values, kv_heads, bytes]
        self.cache = zero_pages(self.pool.count * block_bytes(self.spec, dtype, cache))
        self._build()

    def load(self) -> None:
        super().load()
        self._freed()
        del self._weights  # first, since two copies may not fit
        self._build()

    def _build(self) -> None:
        spec, dtype = self.spec, self._dtype
        integers = bool(library().camelid_integers())
        self._weights = weights = Weights(self.model, dtype, integers)
        assert isinstance(spec.positions, Rotary)  # `supports` has said so
        angles = rotation(
            torch.arange(spec.context_length), inverse_frequencies(spec.positions, spec.head_dim)
        )
        cosine, sine = (side[:, : spec.head_dim // 2] for side in angles)
        self._model = CModel(
            kind=KINDS[dtype],
            arithmetic=FLOAT32 if dtype == torch.float32 else _arithmetic(library()),
            layers=spec.num_layers,
            width=spec.hidden_size,
            heads=spec.num_heads,
            kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            hidden=spec.feed_forward.width,
            vocab=spec.vocab_size,
            blocks=self.pool.count,
            kv_packed=self._kind == "8-bit",
            segment=weights.segment,
            eps=spec.norm.eps,
            layer=(CLayer * spec.num_layers)(*(weights.layer(index) for index in range(spec.num_layers))),
            embedding=weights.embedding,
            norm=weights.address(self.model.norm.get_parameter("weight")),
            unembedding=weights.unembedding,
            cosine=weights.address(cosine),
            sine=weights.address(sine),
            cache=self.cache.data_ptr(),
        )
        self._address = ctypes.addressof(self._model)
        self._freed = weakref.finalize(self, _free, self._model)

    def compute(self, extensions: Sequence[Extension]) -> Predictions:
        """Torch's threads stay asleep, which would otherwise be in the way of ours."""
        tokens, positions, tables, blocks, wanted = (array("i") for _ in range(5))
        for extension in extensions:
            begin, count = len(extension.sequence), len(extension.tokens)
            if begin + count > self.spec.context_length:
                raise CamelidError(
                    f"the context holds {self.spec.context_length} tokens and would need {begin + count}"
                )
            wanted.extend(range(len(tokens) + max(0, count - extension.wanted), len(tokens) + count))
            tokens.extend(extension.tokens)
            positions.extend(range(begin, begin + count))
            tables.extend([len(blocks)] * count)
            blocks.extend(extension.sequence.blocks)
        if tokens and not 0 <= min(tokens) <= max(tokens) < self.spec.vocab_size:
            raise CamelidError(
                f"tokens are from 0 to {self.spec.vocab_size - 1}; "
                f"there are others among {min(tokens)} to {max(tokens)}"
            )
        count = len(wanted)
        logits, greedy = torch.empty(count, self.spec.vocab_size), torch.empty(count, dtype=torch.int32)
        found = Predictions(logits, greedy, torch.empty(count), torch.empty(count))
        done = 0
        for begin in range(0, len(tokens), CHUNK_ROWS):
            end = min(begin + CHUNK_ROWS, len(tokens))
            own = array("i", [row - begin for row in wanted[done:] if row < end])
            columns = tokens[begin:end], positions[begin:end], tables[begin:end], blocks, own
            addresses = [column.buffer_info()[0] for column in columns]
            addresses += [column[done:].data_ptr() for column in found]
            batch = CBatch(end - begin, len(own), *addresses)
            if self._step(self._address, ctypes.addressof(batch), torch.get_num_threads()):
                raise CamelidError(f"out of memory for a step of {end - begin} tokens")
            done += len(own)
        return found

    def copy_block(self, source: int, target: int) -> None:
        self._copy(self._address, source, target)

    def clear_block(self, block: int) -> None:
        self._clear(self._address, block)


def padded(head_dim: int) -> int:
    """Values that a head's vector takes in the cache."""
    return -(-head_dim // HEAD_MULTIPLE) * HEAD_MULTIPLE


def block_bytes(spec: ModelSpec, dtype: torch.dtype, cache: CacheKind = "whole") -> int:
    """Bytes of a block of the cache in all layers."""
    stride = padded(spec.head_dim)
    each = stride + 4 if cache == "8-bit" else stride * dtype.itemsize
    return 2 * spec.num_layers * spec.num_kv_heads * BLOCK_TOKENS * each


def _free(model: ctypes.Structure) -> None:
    library().camelid_free(ctypes.addressof(model))
