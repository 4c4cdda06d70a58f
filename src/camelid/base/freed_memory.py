"""What becomes of memory that was freed: glibc keeps some of it, which is fast, or returns it to the kernel."""

import ctypes
import sys
from typing import Any

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt(3)."""


def keep_freed_memory(device: torch.device) -> None:
    """Has glibc keep what is freed instead of returning it to the kernel, which would zero it again at every step.

    Faulting fresh pages in takes several times as long as computing what they hold. Other C libraries have no such
    switch, and a GPU's memory has an allocator of its own; there nothing changes.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None and device.type == "cpu":
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_MAX, 0)


def return_freed_memory() -> None:
    """Has glibc return to the kernel what is freed by now: pieces of many sizes leave gaps, of which it keeps all."""
    if (trim := _glibc("malloc_trim")) is not None:
        trim(0)


def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
