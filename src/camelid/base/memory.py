"""Sizes of memory: what is free, what a text says; and how glibc treats freed memory."""

import ctypes
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from camelid.base.errors import CamelidError, WrongCall

if TYPE_CHECKING:
    import torch

PROC = Path("/proc")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Parameters of glibc's mallopt(3)."""
MAPPED_ALONE = 2**18
"""Bytes from which a block of memory is mapped by itself, where freed memory is returned at once."""
UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}


def free_memory(device: "torch.device | None" = None) -> int:
    """Bytes that can still be allocated on the device, by default the CPU.

    On a CPU this is what the system can allocate without swapping, on Linux limited by the control groups of
    this process (containers, batch systems).
    """
    if device is not None and device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return min((_available(), *group_limits()))


def parse_size(text: str) -> int:
    """Bytes of a size such as 8GB (of 10^9) or 8GiB (of 2^30); raises `WrongCall` for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", text.strip().upper())
    if found is None or found[2] not in UNITS:
        raise WrongCall(f"{text!r} is not a size; write a number with its unit, such as 8GB or 6.5GiB")
    return int(float(found[1]) * UNITS[found[2]])


def resident_memory() -> int:
    """Bytes of this process in memory; where the system does not say (Linux without /proc), their peak so
    far."""
    try:
        return int(psutil.Process().memory_info().rss)
    except (psutil.Error, OSError):
        return peak_memory()


def peak_memory() -> int:
    """Most bytes of this process in memory so far."""
    # Linux's getrusage includes the parent's memory before exec, so /proc is the better source.
    try:
        lines = (PROC / "self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, else kilobytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    [line] = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def _available() -> int:
    try:
        return int(psutil.virtual_memory().available)
    except OSError:  # Linux without /proc: what is free, without the caches that could be dropped
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def as_out_of_memory(error: Exception) -> Exception:
    """Turns an allocator's error into a readable `CamelidError`; returns any other error unchanged."""
    # Looked up, not imported: only torch raises these. On a CPU it raises a plain RuntimeError.
    torch = sys.modules.get("torch")
    of_torch = (
        torch is not None and isinstance(error, torch.OutOfMemoryError)
    ) or "can't allocate memory" in str(error)
    if not of_torch and not isinstance(error, MemoryError):
        return error
    readable = CamelidError(
        "out of memory with a single request: use fewer tokens in it, or a smaller cache (cache_tokens)"
    )
    readable.__cause__ = error
    return readable


def group_limits(root: Path = Path("/")) -> Iterator[int]:
    """Bytes left under each memory limit of this process's control groups, if any (cgroups(7), versions 1 and
    2).

    File pages that the kernel can drop count as free. root: the folder with `proc` and `sys`.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit, used, droppable = "", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, limit, used = "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            droppable = "total_inactive_file"
        else:
            continue
        place = root / "sys/fs/cgroup" / base
        # A container may see its own group as the root, whatever path the kernel names.
        for group in dict.fromkeys((place, *_ancestry(place, path.strip("/")))):
            if (left := _left(group / limit, group / used, group / "memory.stat", droppable)) is not None:
                yield left


def keep_freed_memory(device: "torch.device") -> None:
    """Makes glibc keep freed memory instead of returning it to the kernel, which zeroes pages again at every
    step.

    Page faults would take several times as long as the computation itself. Does nothing with other C
    libraries and for GPUs, which have their own allocator.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None and device.type == "cpu":
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_MAX, 0)


def return_large_blocks() -> None:
    """Makes glibc return large blocks of memory to the system when they are freed.

    By default it learns to keep blocks of up to 32 MB in its heap, where small ones that stay lie between
    them: dequantised matrices and activations then take much more memory. Does nothing with other C
    libraries.
    """
    if (mallopt := _glibc("mallopt")) is not None:
        mallopt(M_MMAP_THRESHOLD, MAPPED_ALONE)
        mallopt(M_TRIM_THRESHOLD, MAPPED_ALONE)


def return_freed_memory() -> None:
    """Returns fragmented heap memory to the system (glibc's malloc_trim)."""
    if (trim := _glibc("malloc_trim")) is not None:
        trim(0)


def _ancestry(place: Path, path: str) -> Iterator[Path]:
    parts = Path(path).parts
    return (place.joinpath(*parts[:count]) for count in range(1, len(parts) + 1))


def _left(limit: Path, used: Path, statistics: Path, droppable: str) -> int | None:
    try:
        most, taken = int(limit.read_text()), int(used.read_text())
        lines = (line.split() for line in statistics.read_text().splitlines())
        return max(0, most - taken + next((int(value) for key, value in lines if key == droppable), 0))
    except (OSError, ValueError):
        return None  # no such group here, or "max": no limit


def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
