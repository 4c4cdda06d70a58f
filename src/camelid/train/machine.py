"""What the machine decides where a recipe leaves it open: precision, and rows at once."""

import time
from functools import lru_cache

import torch

KNOWN_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}
"""Dense bfloat16 FLOP/s that the vendor's data sheets state, by a part of the device's name."""
CLEARLY_FASTER = 1.15
"""What float32 must gain in products: it moves twice the bytes everywhere else."""
BYTES_IN_CACHE = 2**21
"""Of the hidden states of one pass on a CPU, so that what a layer makes of them stays in a last-level cache."""
TOKENS_FOR_PRODUCTS = 1024
"""Rows of a matrix product from which on a CPU computes it at full speed."""
TOKENS_ON_DEVICE = 16_384
"""Tokens of one pass on a GPU: enough to fill it, and a few GB for a model of some hundred million parameters."""


@lru_cache
def peak_flops(device: torch.device, dtype: torch.dtype, size: int = 2048, repeats: int = 5) -> float:
    """The known peak of this GPU, else the fastest of `repeats` products of two size x size matrices, in FLOP/s."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if known := [peak for part, peak in KNOWN_PEAKS.items() if part in name]:
            return known[0]
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        (left @ right)[0, 0].item()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


@lru_cache
def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16, unless this is a CPU whose float32 products are clearly faster: many have no fast bfloat16 units."""
    if device.type != "cpu":
        return torch.bfloat16
    gain = peak_flops(device, torch.float32) / peak_flops(device, torch.bfloat16)
    return torch.float32 if gain > CLEARLY_FASTER else torch.bfloat16


def rows_at_once(rows: int, context: int, width: int, dtype: torch.dtype, device: torch.device) -> int:
    """How many of `rows` rows of `context` tokens to take through the model at once.

    On a CPU the most that stay in its cache, on a GPU the most that `TOKENS_ON_DEVICE` allows; a divisor of `rows`,
    so that every pass has one shape. width, dtype: of the model's hidden states.
    """
    if device.type == "cpu":
        tokens = max(TOKENS_FOR_PRODUCTS, BYTES_IN_CACHE // (width * dtype.itemsize))
    else:
        tokens = TOKENS_ON_DEVICE
    most = max(1, tokens // context)
    return max(count for count in range(1, min(most, rows) + 1) if rows % count == 0)
