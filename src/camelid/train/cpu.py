"""What makes training fast on a CPU besides the model's own code: memory that stays warm."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt(3)."""
TOKENS_IN_CACHE = 1024
"""Tokens whose activations of one layer stay in a last-level cache, and enough for full-speed matrix products."""
VALUES_IN_CACHE = 2**19
"""The same bound for narrow models, as tokens times width."""


def keep_freed_memory() -> None:
    """Has glibc keep what is freed instead of returning it to the kernel, which would zero it again at every step.

    Faulting fresh pages in takes several times as long as computing what they hold. Other C libraries have no such
    switch; there nothing changes.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_MAX, 0)


def rows_in_cache(rows: int, context: int, width: int) -> int:
    """How many of `rows` rows of `context` tokens to take through the model at once: the most that stay in the cache.

    It divides `rows`, so that every pass has one shape. width: of the model's hidden states.
    """
    most = max(1, max(TOKENS_IN_CACHE, VALUES_IN_CACHE // width) // context)
    return max(count for count in range(1, min(most, rows) + 1) if rows % count == 0)
