"""Memory in large pages, where the system has them: of small ones, looking up where they lie costs a third of
the speed."""

import contextlib
import mmap

import torch
from jaxtyping import UInt8
from torch import Tensor


def zero_pages(size: int) -> UInt8[Tensor, " size"]:
    """`size` bytes of zeros, which take no memory before they are written; given back with the last tensor
    over them."""
    if not size:
        return torch.empty(0, dtype=torch.uint8)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=torch.uint8)
