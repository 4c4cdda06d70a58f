"""Progress of long jobs: one live line on a terminal, plain lines elsewhere, nothing outside the main
process.

Lines go to standard error, so that standard output has only results. rich honours NO_COLOR.
"""

import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from camelid.base.memory import resident_memory

logger = logging.getLogger(__name__)

T = TypeVar("T")

PLAIN_INTERVAL = 5.0
"""Seconds between two lines without a terminal."""
SMOOTHING_SECONDS, SMOOTHING_STEPS = 10.0, 8
"""The speed shown is a mean in which work of this age weighs 1/e of the newest; where so many steps take
longer, work that many steps ago: one step in a few may hold a rollout or a validation."""
BAR_WIDTHS = (8, 30)
"""A bar is shown if at least the first number of columns is left for it, and takes at most the second."""


class Update(Protocol):
    """The metrics of one update, such as `train.loop.Step`."""

    @property
    def number(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def grad_norm(self) -> float: ...
    @property
    def tokens(self) -> int: ...
    @property
    def trained_tokens(self) -> int: ...
    @property
    def seconds(self) -> float: ...


class Validation(Protocol):
    """A validation result, such as `train.fit.ValidationLoss`."""

    @property
    def measures(self) -> Mapping[str, float]: ...


class Pace:
    """The smoothed speed of a job in steps: sums of recent work over sums of recent seconds."""

    def __init__(self) -> None:
        self._steps = self._tokens = self._busy = self._elapsed = 0.0
        self._last = time.monotonic()
        self._count = 0

    def add(self, tokens: int = 0, seconds: float = 0.0) -> None:
        """Counts a step that has just ended; the first, which may have compiled, counts only until the
        second."""
        now = time.monotonic()
        elapsed = max(now - self._last, seconds)
        age = min(elapsed / SMOOTHING_SECONDS, 1 / SMOOTHING_STEPS)
        keep = math.exp(-age) if self._count > 1 else 0.0
        self._last = now
        self._count += 1
        self._steps = keep * self._steps + 1
        self._tokens = keep * self._tokens + tokens
        self._busy = keep * self._busy + seconds
        self._elapsed = keep * self._elapsed + elapsed

    @property
    def tokens_per_second(self) -> float:
        """While steps were computed."""
        return self._tokens / max(self._busy, 1e-9)

    def seconds_for(self, steps: int) -> float:
        """The time that so many steps will take, with what happens between them, such as validation."""
        return steps * self._elapsed / max(self._steps, 1e-9)


class OneLine:
    """A line for a terminal that never wraps: a bar, and the fields that fit.

    fields: in the order in which they are shown, each with its rank; where not all fit, the highest ranks are
    left out.
    """

    def __init__(self, share: float | None, fields: Sequence[tuple[int, str]]) -> None:
        self.share, self.fields = share, fields

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The line for the console's present width."""
        # The last column stays empty: some terminals wrap after it.
        width = max(1, options.max_width - 1)
        fields = list(self.fields)
        while len(fields) > 1 and len("  ".join(text for _, text in fields)) > width:
            fields.remove(max(fields))
        line = Text(no_wrap=True, overflow="crop", end="")
        shown = "  ".join(text for _, text in fields)[:width]
        room = min(width - len(shown) - 2, BAR_WIDTHS[1])
        if self.share is not None and room >= BAR_WIDTHS[0]:
            done = round(room * min(1.0, self.share))
            full, empty = ("#", "-") if options.ascii_only else ("\u2501", "\u2501")
            line.append(full * done, "bar.complete").append(empty * (room - done), "bar.back").append("  ")
        yield line.append(shown)


class Display:
    """Where progress is shown: a live line on a terminal, else a log line about every `PLAIN_INTERVAL`
    seconds."""

    def __init__(self, show: bool = True, console: Console | None = None) -> None:
        console = console or Console(stderr=True, highlight=False)
        self._show, self._shown = show, -math.inf
        rewrites = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console) if show and rewrites else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, share: float | None, fields: Sequence[tuple[int, str]], *, always: bool = False) -> None:
        """Shows what is done now, see `OneLine`; always: also if the last line was logged just before."""
        now = time.monotonic()
        if self._live is not None:
            self._live.update(OneLine(share, fields))
        elif self._show and (always or now - self._shown >= PLAIN_INTERVAL):
            self._shown = now
            logger.info("  ".join(text for _, text in fields))

    def say(self, line: str) -> None:
        """Shows a line that stays."""
        if self._live is not None:
            self._live.console.print(line, markup=False, soft_wrap=True)
        elif self._show:
            logger.info(line)


class StepLog:
    """One line of progress: `step loss lr grad_norm tok/s mfu mem eta`; a context manager.

    On a terminal the line is live; elsewhere one is logged about every `PLAIN_INTERVAL` seconds, and for the
    first and the last step. Speed, MFU and time left are smoothed. `flops_share`: FLOPs per token divided by
    the machine's peak FLOP/s; times tokens per second it is the MFU (model FLOPs utilisation; PaLM,
    arXiv:2204.02311, appendix B), and None for batches of changing width. Each method returns the record
    for metrics.jsonl, with the values of that step, in which `step` counts the updates made.
    """

    def __init__(
        self,
        total_steps: int,
        flops_share: float | None,
        show: bool = True,
        console: Console | None = None,
    ) -> None:
        self.total_steps = total_steps
        self.flops_share = flops_share
        self._pace, self._display = Pace(), Display(show, console)

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.__exit__(kind, error, trace)

    def step(self, update: Update) -> dict[str, Any]:
        """Shows one update and returns its record."""
        done = update.number + 1
        self._pace.add(update.tokens, update.seconds)
        speed = update.tokens / update.seconds
        record = {
            "step": done,
            "loss": update.loss,
            "learning_rate": update.learning_rate,
            "grad_norm": update.grad_norm,
            "tokens": update.tokens,
            "trained_tokens": update.trained_tokens,
            "seconds": update.seconds,
            "tokens_per_second": speed,
            "memory_bytes": memory_bytes(),
        }
        smooth = self._pace.tokens_per_second
        fields = [
            (0, f"step {done}/{self.total_steps}"),
            (1, f"loss {update.loss:.4f}"),
            (5, f"lr {update.learning_rate:.2e}"),
            (4, f"grad_norm {update.grad_norm:.2f}"),
            (3, f"tok/s {smooth:,.0f}"),
            (6, f"mem {in_bytes(record['memory_bytes'])}"),
            (2, f"eta {in_time(self._pace.seconds_for(self.total_steps - done))}"),
        ]
        if self.flops_share is not None:
            record["mfu"] = speed * self.flops_share
            fields.insert(-2, (7, f"mfu {smooth * self.flops_share:.1%}"))
        self._display.update(done / self.total_steps, fields, always=done == self.total_steps)
        return record

    def validation(self, number: int, result: Validation) -> dict[str, Any]:
        """Shows the validation after update `number` (from 0) and returns its part of the record."""
        measures = result.measures
        shown = "  ".join(
            f"{name.replace('_per_', '/').replace('_', ' ')} {value:.4f}" for name, value in measures.items()
        )
        self._display.say(f"step {number + 1}/{self.total_steps}  validation {shown}")
        return {f"validation_{name}": value for name, value in measures.items()}


def track(items: Iterable[T], label: str, total: int | None = None, *, show: bool = True) -> Iterator[T]:
    """Yields the items with a live line on a terminal, or a line every few seconds elsewhere."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    of, began, pace = "" if total is None else f"/{total}", time.monotonic(), Pace()
    with Display(show) as display:
        for count, item in enumerate(items, start=1):
            yield item
            pace.add()
            left = [] if total is None else [(1, f"eta {in_time(pace.seconds_for(total - count))}")]
            last = count == total
            took = [(1, in_time(time.monotonic() - began))] if last else left
            share = count / total if total else None
            display.update(share, [(2, label), (0, f"{count}{of}"), *took], always=last)


def memory_bytes() -> int:
    """Bytes in use: the peak of the GPU allocator with a GPU, else the resident memory of this process."""
    # Looked up, not imported: stages without torch also show progress.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    return resident_memory()


def in_bytes(count: float) -> str:
    """`1536000000` -> `1.54 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def in_time(seconds: float) -> str:
    """`3725` -> `1h02m`; `75` -> `1m15s`; `4.2` -> `4s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"
