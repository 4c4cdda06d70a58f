"""Defaults that depend on the machine: precision and micro-batch size."""

import time
from functools import lru_cache

import torch

KNOWN_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}
"""Dense bfloat16 FLOP/s from the vendor's data sheets, by a substring of the device's name."""
CLEARLY_FASTER = 1.15
"""How much faster float32 products must be: everything else moves twice the bytes."""
SMALL_PRODUCT, LONGEST_PRODUCT = 256, 1.0
"""Size of the first products that are timed, and the most seconds that one large product may take."""
BYTES_IN_CACHE = 2**21
"""Size of the hidden states of one pass on a CPU, so that a layer's activations fit the last-level cache."""
TOKENS_FOR_PRODUCTS = 1024
"""Rows that a matrix product needs to run at full speed on a CPU."""
TOKENS_ON_DEVICE = 16_384
"""Tokens per pass on a GPU: enough to fill it, and a few GB for a few hundred million parameters."""


@lru_cache
def peak_flops(device: torch.device, dtype: torch.dtype, size: int = 2048, repeats: int = 5) -> float:
    """FLOP/s: the GPU's known peak, else the fastest of `repeats` products of two size x size matrices.

    Small products come first; where these are so slow that a large one would take longer than
    `LONGEST_PRODUCT` (bfloat16 on a CPU without instructions for it: minutes in all), their rate is returned.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if known := [peak for part, peak in KNOWN_PEAKS.items() if part in name]:
            return known[0]
    flops = _product_flops(device, dtype, min(size, SMALL_PRODUCT), repeats)
    if 2 * size**3 / flops > LONGEST_PRODUCT:
        return flops
    return _product_flops(device, dtype, size, repeats)


def _product_flops(device: torch.device, dtype: torch.dtype, size: int, repeats: int) -> float:
    # Constant values: random ones would advance torch's global generator.
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


@lru_cache
def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16, except on CPUs without fast bfloat16 units, where float32 products are clearly faster."""
    if device.type != "cpu":
        return torch.bfloat16
    gain = peak_flops(device, torch.float32) / peak_flops(device, torch.bfloat16)
    return torch.float32 if gain > CLEARLY_FASTER else torch.bfloat16


def rows_at_once(rows: int, context: int, width: int, dtype: torch.dtype, device: torch.device) -> int:
    """Micro-batch size: how many of `rows` rows of `context` tokens to compute in one pass.

    On a CPU as many as fit its cache, on a GPU as many as `TOKENS_ON_DEVICE` allows; always a divisor of
    `rows`, so that all passes have the same shape. width, dtype: those of the model's hidden states.
    """
    if device.type == "cpu":
        tokens = max(TOKENS_FOR_PRODUCTS, BYTES_IN_CACHE // (width * dtype.itemsize))
    else:
        tokens = TOKENS_ON_DEVICE
    most = max(1, tokens // context)
    return max(count for count in range(1, min(most, rows) + 1) if rows % count == 0)
