"""GGUF's number formats, each as a function from blocks of bytes to float32.

A row is a run of blocks along the input dimension; every format gives exactly the values of ggml's
`dequantize_row_*`. Layouts: ggml-quants.h and ggml-common.h of llama.cpp, and the `gguf` package.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

SLAB = 1 << 15
"""Blocks dequantised at a time, to keep intermediates in the cache and bound memory."""


@dataclass(frozen=True)
class BlockFormat:
    """`values` numbers in `size` bytes, and the decoder from [blocks, size] bytes to [blocks, values]."""

    name: str
    values: int
    size: int
    widen: Callable[[Bytes], Floats]

    def dequantize(self, data: Bytes) -> Floats:
        """The numbers of a flat array of whole blocks."""
        blocks = data.reshape(-1, self.size)
        result = np.empty((len(blocks), self.values), np.float32)
        for start in range(0, len(blocks), SLAB):
            result[start : start + SLAB] = self.widen(blocks[start : start + SLAB])
        return result.ravel()


def _f32(blocks: Bytes) -> Floats:
    return np.ascontiguousarray(blocks).view("<f4")


def _f16(blocks: Bytes) -> Floats:
    return np.ascontiguousarray(blocks).view("<f2").astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    return (np.ascontiguousarray(blocks).view("<u2").astype(np.uint32) << 16).view(np.float32)


def _planes(packed: Bytes, bits: int) -> Bytes:
    """[..., n] bytes as [..., 8 / bits, n]: the lowest `bits` of every byte first, the highest last."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    return (packed[..., None, :] >> shifts) & np.uint8((1 << bits) - 1)


def _unpack(packed: Bytes, bits: int, run: int) -> Bytes:
    """[blocks, n] bytes as [blocks, n * 8 / bits] numbers, plane by plane within runs of `run` bytes."""
    count = len(packed)
    return _planes(packed.reshape(count, -1, run), bits).reshape(count, -1)


def _q4_0(blocks: Bytes) -> Floats:
    return _f16(blocks[:, :2]) * (_unpack(blocks[:, 2:], 4, 16).astype(np.float32) - 8)


def _q4_1(blocks: Bytes) -> Floats:
    return _f16(blocks[:, :2]) * _unpack(blocks[:, 4:], 4, 16).astype(np.float32) + _f16(blocks[:, 2:4])


def _q5(high: Bytes, low: Bytes) -> Floats:
    fifth = np.unpackbits(high, axis=1, bitorder="little") << 4
    return (fifth | _unpack(low, 4, 16)).astype(np.float32)


def _q5_0(blocks: Bytes) -> Floats:
    return _f16(blocks[:, :2]) * (_q5(blocks[:, 2:6], blocks[:, 6:]) - 16)


def _q5_1(blocks: Bytes) -> Floats:
    return _f16(blocks[:, :2]) * _q5(blocks[:, 4:8], blocks[:, 8:]) + _f16(blocks[:, 2:4])


def _q8_0(blocks: Bytes) -> Floats:
    return _f16(blocks[:, :2]) * _signed(blocks[:, 2:])


def _q2_k(blocks: Bytes) -> Floats:
    scales, quants = blocks[:, :16], _unpack(blocks[:, 16:80], 2, 32)
    scale, minimum = _f16(blocks[:, 80:82]) * (scales & 15), _f16(blocks[:, 82:84]) * (scales >> 4)
    return _scaled(quants.astype(np.float32), scale, minimum)


def _q3_k(blocks: Bytes) -> Floats:
    high, low, packed = blocks[:, :32], blocks[:, 32:96], blocks[:, 96:108]
    quants = _unpack(low, 2, 32).astype(np.float32) - 4 * (1 - _unpack(high, 1, 32).astype(np.float32))
    scales = (_unpack(packed[:, :8], 4, 8) | (_unpack(packed[:, 8:], 2, 4) << 4)).astype(np.float32) - 32
    return _scaled(quants, _f16(blocks[:, 108:110]) * scales)


def _q4_k(blocks: Bytes) -> Floats:
    return _scaled(_unpack(blocks[:, 16:], 4, 32).astype(np.float32), *_scales_and_minima(blocks))


def _q5_k(blocks: Bytes) -> Floats:
    quants = (_unpack(blocks[:, 16:48], 1, 32) << 4) | _unpack(blocks[:, 48:], 4, 32)
    return _scaled(quants.astype(np.float32), *_scales_and_minima(blocks))


def _q6_k(blocks: Bytes) -> Floats:
    quants = _unpack(blocks[:, :128], 4, 64) | (_unpack(blocks[:, 128:192], 2, 32) << 4)
    return _scaled(quants.astype(np.float32) - 32, _f16(blocks[:, 208:]) * _signed(blocks[:, 192:208]))


def _scales_and_minima(blocks: Bytes) -> tuple[Floats, Floats]:
    """The eight sub-blocks' scales and minima of Q4_K and Q5_K, 6 bits each in 12 bytes."""
    first, second, rest = (blocks[:, start : start + 4] for start in (4, 8, 12))
    scales = np.concatenate((first & 63, (rest & 15) | ((first >> 6) << 4)), axis=1)
    minima = np.concatenate((second & 63, (rest >> 4) | ((second >> 6) << 4)), axis=1)
    return _f16(blocks[:, :2]) * scales, _f16(blocks[:, 2:4]) * minima


def _signed(data: Bytes) -> Floats:
    return np.ascontiguousarray(data).view(np.int8).astype(np.float32)


def _scaled(quants: Floats, scales: Floats, minima: Floats | None = None) -> Floats:
    """scale * q - minimum, each scale for its own sub-block of the row's numbers."""
    grouped = quants.reshape(*scales.shape, -1) * scales[..., None]
    if minima is not None:
        grouped -= minima[..., None]
    return grouped.reshape(quants.shape)


FORMATS = {
    0: BlockFormat("F32", 1, 4, _f32),
    1: BlockFormat("F16", 1, 2, _f16),
    2: BlockFormat("Q4_0", 32, 18, _q4_0),
    3: BlockFormat("Q4_1", 32, 20, _q4_1),
    6: BlockFormat("Q5_0", 32, 22, _q5_0),
    7: BlockFormat("Q5_1", 32, 24, _q5_1),
    8: BlockFormat("Q8_0", 32, 34, _q8_0),
    10: BlockFormat("Q2_K", 256, 84, _q2_k),
    11: BlockFormat("Q3_K", 256, 110, _q3_k),
    12: BlockFormat("Q4_K", 256, 144, _q4_k),
    13: BlockFormat("Q5_K", 256, 176, _q5_k),
    14: BlockFormat("Q6_K", 256, 210, _q6_k),
    30: BlockFormat("BF16", 1, 2, _bf16),
}
"""Every supported format by its number in the file (`enum ggml_type`)."""

BLOCKS = {each.name: each for each in FORMATS.values()}
