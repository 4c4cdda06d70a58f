"""Integers of a few bits packed into int32 words, the first in the lowest bits, as quantised folders store
them.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Int, Int32, UInt8
from torch import Tensor


def packing_multiple(bits: int) -> int:
    """The number of integers that fill int32 words exactly: 8 of 4 bits fill one, 32 of 3 bits fill three."""
    return 32 // math.gcd(bits, 32)


def packed_int32(values: Int[Tensor, "n m"] | UInt8[Tensor, "n m"], bits: int) -> Int32[Tensor, "packed m"]:
    """[n, m] integers below 2^bits -> int32 [n * bits / 32, m]; pads n with zeros to a multiple of
    `packing_multiple`.
    """
    run = packing_multiple(bits)
    values = F.pad(values, (0, 0, 0, -len(values) % run)).contiguous()
    packed = values.new_zeros(len(values) // run, run * bits // 32, values.shape[1], dtype=torch.int32)
    for index, column in enumerate(values.reshape(-1, run, values.shape[1]).unbind(1)):
        word, shift = divmod(index * bits, 32)
        packed[:, word] |= column.int() << shift  # bits shifted out belong to the next word
        if shift + bits > 32:
            packed[:, word + 1] |= column.int() >> 32 - shift
    return packed.flatten(0, 1)


def unpacked_integers(packed: Int32[Tensor, "packed m"], bits: int) -> Int32[Tensor, "n m"]:
    """The [n, m] integers that `packed_int32` packed, with its padding."""
    run = packing_multiple(bits)
    runs = packed.reshape(-1, run * bits // 32, packed.shape[1])
    values = torch.empty(len(runs), run, packed.shape[1], dtype=torch.int32, device=packed.device)
    for index in range(run):
        word, shift = divmod(index * bits, 32)
        value = runs[:, word] >> shift
        if shift + bits > 32:
            # Mask the sign extension of the shift; this word holds the low bits.
            value = value & 2 ** (32 - shift) - 1 | runs[:, word + 1] << 32 - shift
        values[:, index] = value & 2**bits - 1
    return values.flatten(0, 1)
