"""Releases the memory of a mapped weight file after it has been read."""

import ctypes
import mmap
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MADV_PAGEOUT = 21
"""Linux's advice to reclaim pages; the `mmap` module does not define it."""


def let_go(tensor: "Tensor") -> None:
    """Lets the kernel reclaim the memory of a tensor in a mapped file; it is read again when needed.

    Does nothing for other tensors, and on systems without this call.
    """
    begin = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - begin
    if size > 0 and _maps_file(begin):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(size), MADV_PAGEOUT)


def _maps_file(address: int) -> bool:
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    for line in lines:
        span, _, _, _, inode, *_ = line.split()
        begin, end = (int(bound, 16) for bound in span.split("-"))
        if begin <= address < end:
            return inode != "0"
    return False
