"""The journal of a quickstart: its decisions and times so far, which let the same command resume."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError, WrongCall, refuse_not_utf8
from camelid.base.json import read_table, write_json

JOURNAL = "quickstart.json"
ELSEWHERE = "choose another folder with --out"


class Journal:
    """The arguments, the decisions and the seconds of every step; each change is written at once.

    If only the journal exists, other arguments start a new one. Raises `WrongCall` if `out` holds anything
    but a quickstart with these arguments.
    """

    def __init__(self, out: Path, arguments: dict[str, Any]) -> None:
        refuse_not_utf8(out.resolve())
        self.path = out / JOURNAL
        self.arguments = arguments
        self.clock: Callable[[], float] | None = None
        self._running: tuple[str, float, float] | None = None
        self._lock = threading.RLock()
        self.decisions: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        if self.path.exists():
            self._resume(out)
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise WrongCall(f"{out} is not empty and not a quickstart's folder; {ELSEWHERE}")
        out.resolve().mkdir(parents=True, exist_ok=True)
        self._write()

    def _resume(self, out: Path) -> None:
        try:
            before = read_table(self.path, remedy=ELSEWHERE)
            arguments, decisions, seconds = (before[key] for key in ("arguments", "decisions", "seconds"))
        except KeyError as error:
            raise CamelidError(
                f"{self.path} is not a quickstart's journal ({error} is missing); {ELSEWHERE}"
            ) from error
        changed = [key for key, value in self.arguments.items() if arguments.get(key, False) != value]
        if changed and not any(path != self.path for path in out.iterdir()):
            return
        if changed:
            shown = ", ".join(f"{key} was {arguments.get(key)!r}" for key in changed)
            raise WrongCall(f"{out} holds a quickstart with other arguments ({shown}); {ELSEWHERE}")
        self.decisions, self.seconds = decisions, seconds

    def decide(self, name: str, value: Any) -> Any:
        """The decision with this name: the recorded one, else `value()`, which is then recorded."""
        if name not in self.decisions:
            decided = value()
            with self._lock:
                self.decisions[name] = decided
                self._write()
        return self.decisions[name]

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Adds the time of the block to the step's time, also if the block is interrupted."""
        self._running = (step, self._now(), self.seconds.get(step, 0.0))
        try:
            yield
        finally:
            self.keep_time()
            self._running = None

    def keep_time(self) -> None:
        """Writes the time of the present step down, so that it counts after `kill -9` too."""
        if (running := self._running) is not None:
            step, began, before = running
            with self._lock:
                self.seconds[step] = before + self._now() - began
                self._write()

    def _now(self) -> float:
        return time.monotonic() if self.clock is None else self.clock()

    def _write(self) -> None:
        with self._lock:
            content = {"arguments": self.arguments, "decisions": self.decisions, "seconds": self.seconds}
            write_json(self.path, content)
