"""Integers of a few bits packed into 32-bit words, the first in the lowest bits: how quantised folders store them."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Int, Int32, UInt8
from torch import Tensor


def run_length(bits: int) -> int:
    """How many integers fill whole words: 8 of 4 bits one, 32 of 3 bits three."""
    return 32 // math.gcd(bits, 32)


def pack_integers(values: Int[Tensor, "n m"] | UInt8[Tensor, "n m"], bits: int) -> Int32[Tensor, "words m"]:
    """[n, m] integers below 2^bits -> int32 [n * bits / 32, m]; n is filled up with zeros to a multiple of `run_length`."""
    run = run_length(bits)
    values = F.pad(values, (0, 0, 0, -len(values) % run))
    words = values.new_zeros(len(values) // run, run * bits // 32, values.shape[1], dtype=torch.long)
    for index, column in enumerate(values.long().reshape(-1, run, values.shape[1]).unbind(1)):
        word, shift = divmod(index * bits, 32)
        words[:, word] |= column << shift & 0xFFFFFFFF
        if shift + bits > 32:  # the rest goes into the next word
            words[:, word + 1] |= column >> 32 - shift
    words = words.flatten(0, 1)
    return torch.where(words < 2**31, words, words - 2**32).int()


def unpack_integers(words: Int32[Tensor, "words m"], bits: int) -> Int32[Tensor, "n m"]:
    """What `pack_integers` packed, filled up to a multiple of `run_length`."""
    run = run_length(bits)
    pairs = words.long().reshape(-1, run * bits // 32, words.shape[1]) & 0xFFFFFFFF
    values = torch.empty(len(pairs), run, words.shape[1], dtype=torch.int32, device=words.device)
    for index in range(run):
        word, shift = divmod(index * bits, 32)
        value = pairs[:, word] >> shift
        if shift + bits > 32:
            value = value | pairs[:, word + 1] << 32 - shift
        values[:, index] = value & 2**bits - 1
    return values.flatten(0, 1)
