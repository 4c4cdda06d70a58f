"""How fast this machine multiplies matrices: the peak that model FLOPs utilisation (MFU) is measured against."""

import time
from functools import lru_cache

import torch

KNOWN_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}
"""Dense bfloat16 FLOP/s that the vendor's data sheets state, by a part of the device's name."""


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
