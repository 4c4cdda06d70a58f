"""A clock of the time in which this process could work."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

KEEP = 20
"""Readings between two calls of `keep`."""
TICK, LONGEST = 0.5, 5.0
"""Seconds between two readings, and the most that count between two: after a longer time the process stood
still."""


class WorkingClock:
    """Seconds of work: while the process is stopped (Ctrl-Z, a sleeping laptop) the clock stands still.

    A context manager: within it, a thread reads the clock every `TICK` seconds, and calls `keep` every `KEEP`
    readings.
    """

    def __init__(self, keep: Callable[[], object] = lambda: None) -> None:
        self._keep = keep
        self._seconds, self._last = 0.0, time.monotonic()
        self._lock, self._end = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._tick, name="working-clock", daemon=True)

    def __call__(self) -> float:
        """Seconds of work since the clock was made."""
        with self._lock:
            now = time.monotonic()
            self._seconds += min(now - self._last, LONGEST)
            self._last = now
            return self._seconds

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _tick(self) -> None:
        readings = 0
        while not self._end.wait(TICK):
            self()
            readings += 1
            if readings % KEEP == 0:
                with suppress(OSError):  # a full disk stops the step itself, with a message
                    self._keep()
