"""Shares the CPU with other programs: a loop over heavy work in torch adapts its threads to the load.

torch's OpenMP (GNU's libgomp) splits each operation over as many threads as there are cores, and a thread
that is done spins for milliseconds until the others are. When another program takes the core of one thread,
the rest burn theirs; on two cores this leaves a tenth to a third of the speed. Two remedies, neither of which
changes a result, since each operation is still split in the same way:

- short spinning: libgomp spins 100 times instead of 300,000 while it has more threads than cores, so a
  second, idle team of threads is kept;
- on two cores beside a busy program, both threads move to one core, where they take turns.

On an idle machine both would cost up to half of the speed, so the load is measured about twice a second. The
user's own settings of OpenMP win: with GOMP_SPINCOUNT or OMP_WAIT_POLICY nothing is changed, and threads stay
where OMP_PROC_BIND, OMP_PLACES or GOMP_CPU_AFFINITY put them.
"""

import ctypes
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

INTERVAL = 0.5
"""Seconds between two readings of the load."""
BUSY, QUIET = 0.15, 0.07
"""Cores used by others from which on threads spin briefly, and below which they spin as usual again."""
CROWDED, ROOMY = 0.6, 0.35
"""Cores used by others from which on two threads share one core, and below which they spread again."""
OWN_SPINNING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
OWN_PLACES = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY")


class Mode(IntEnum):
    """How the threads wait and where they run."""

    USUAL = 0
    SHORT_SPIN = 1
    ONE_CORE = 2


def choose_mode(others: float, before: Mode, *, may_move: bool) -> Mode:
    """The mode for a number of cores used by other programs; each mode is left at a lower load than it began.

    may_move: whether `Mode.ONE_CORE` is possible.
    """
    if may_move and others >= (ROOMY if before is Mode.ONE_CORE else CROWDED):
        return Mode.ONE_CORE
    return Mode.SHORT_SPIN if others >= (BUSY if before is Mode.USUAL else QUIET) else Mode.USUAL


@dataclass(frozen=True)
class Reading:
    """Seconds of CPU time so far: of each core by all programs, and of this process."""

    at: float
    cores: dict[int, float]
    own: float

    @classmethod
    def now(cls, cores: Iterable[int]) -> "Reading":
        """The present reading of these cores."""
        times = psutil.cpu_times(percpu=True)
        used = {
            core: times[core].user + times[core].nice + times[core].system
            for core in cores
            if core < len(times)
        }
        return cls(time.monotonic(), used, time.process_time())

    def since(self, before: "Reading") -> tuple[float, dict[int, float]]:
        """Cores used by other programs since an earlier reading, and the use of each core by all of them."""
        seconds = max(1e-6, self.at - before.at)
        each = {core: (used - before.cores.get(core, used)) / seconds for core, used in self.cores.items()}
        return max(0.0, sum(each.values()) - (self.own - before.own) / seconds), each


class Team:
    """libgomp's threads of the calling thread, through the functions that compiled code calls."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._idle: tuple[threading.Thread, threading.Event] | None = None

    @property
    def size(self) -> int:
        """Threads of a parallel region."""
        return int(self._library.omp_get_max_threads())

    def run_in_each(self, function: Callable[[], object], threads: int = 0) -> None:
        """Calls `function` once in every thread of the team."""
        callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: function() and None)
        self._library.GOMP_parallel(callback, None, ctypes.c_uint(threads), ctypes.c_uint(0))

    def move(self, cores: Iterable[int]) -> None:
        """Restricts the team, and no other thread of the process, to these cores."""
        chosen = set(cores)
        self.run_in_each(lambda: os.sched_setaffinity(0, chosen))

    def spin_briefly(self, briefly: bool) -> None:
        """Keeps a second team, so that threads outnumber the cores, or ends it."""
        if briefly and self._idle is None:
            ready, end = threading.Event(), threading.Event()
            idle = threading.Thread(target=self._stay, args=(ready, end), name="short-spin", daemon=True)
            idle.start()
            ready.wait()
            self._idle = (idle, end)
        elif not briefly and self._idle is not None:
            thread, end = self._idle
            end.set()
            thread.join()
            self._idle = None

    def _stay(self, ready: threading.Event, end: threading.Event) -> None:
        self.run_in_each(lambda: None, max(2, (os.cpu_count() or 1) + 2 - self.size))
        ready.set()
        end.wait()


class CoreSharing:
    """Adapts the calling thread's team to the load; call `adapt` between pieces of work."""

    def __init__(self, team: Team | None) -> None:
        spins = any(name in os.environ for name in OWN_SPINNING)
        self.team = None if spins else team
        self.mode = Mode.USUAL
        self.core: int | None = None
        self.uses = 0
        if self.team is not None:
            self.home = sorted(os.sched_getaffinity(0))
            self.last = Reading.now(self.home)

    def adapt(self) -> None:
        """Reads the load if the last reading is old enough, and changes the mode if it asks for another."""
        if self.team is None or time.monotonic() - self.last.at < INTERVAL:
            return
        reading = Reading.now(self.home)
        others, each = reading.since(self.last)
        self.last = reading
        threads = self.team.size
        # Of more than two cores, a busy one leaves half of the speed either way.
        placed = any(name in os.environ for name in OWN_PLACES)
        may_move = threads == 2 == len(self.home) and not placed
        mode = choose_mode(others, self.mode, may_move=may_move) if threads > 1 else Mode.USUAL
        self.take(mode, best_core(each, others, self.core) if mode is Mode.ONE_CORE else None)

    def take(self, mode: Mode, core: int | None = None) -> None:
        """Changes to this mode; core: the one to share, for `Mode.ONE_CORE`."""
        if self.team is not None and (mode, core) != (self.mode, self.core):
            self.team.spin_briefly(mode is not Mode.USUAL)
            if core != self.core:
                self.team.move(self.home if core is None else [core])
        self.mode, self.core = mode, core


def best_core(each: dict[int, float], others: float, now: int | None) -> int:
    """The core to share, from the use of each core and that by others; `now`: the present one, if any.

    The scheduler moves other programs away from it, unless they are bound to it too: then the other core is
    taken, where there is room.
    """
    if now is None:
        return min(each, key=lambda core: (each[core], -core))
    elsewhere = sum(use for core, use in each.items() if core != now)
    if others - elsewhere > 0.5 and elsewhere < ROOMY:
        return next(core for core in each if core != now)
    return now


_local = threading.local()


@contextmanager
def sharing_cores() -> Iterator[Callable[[], None]]:
    """Gives a function to call between pieces of work, as often as one likes; inner uses join the outer one.

    Where torch is not loaded or uses another OpenMP than GNU's, it does nothing.
    """
    sharing: CoreSharing | None = getattr(_local, "sharing", None)
    if sharing is None:
        sharing = _local.sharing = CoreSharing(_team())
    sharing.uses += 1
    try:
        yield sharing.adapt
    finally:
        sharing.uses -= 1
        if sharing.uses == 0:
            _local.sharing = None
            sharing.take(Mode.USUAL)


def adapt_cores() -> None:
    """Adapts to the load, if this thread is within `sharing_cores`."""
    sharing: CoreSharing | None = getattr(_local, "sharing", None)
    if sharing is not None:
        sharing.adapt()


def share_cores(items: Iterable[T]) -> Iterator[T]:
    """Yields the items, and adapts to the load before each."""
    with sharing_cores() as adapt:
        for item in items:
            adapt()
            yield item


def _team() -> Team | None:
    """The team of the libgomp that torch has loaded, or None."""
    maps = Path("/proc/self/maps")
    if not hasattr(os, "sched_setaffinity") or not maps.exists():
        return None
    path = _gomp_path(maps.read_text(encoding="utf-8", errors="replace").splitlines())
    return None if path is None else Team(ctypes.CDLL(path))


def _gomp_path(maps: Sequence[str]) -> str | None:
    """torch's libgomp among the mapped files; other packages may bring their own."""
    found = [match[0] for line in maps if (match := re.search(r"/.*/libgomp[^/]*\.so[.\d]*$", line))]
    return min(found, key=lambda path: "/torch" not in path, default=None)
