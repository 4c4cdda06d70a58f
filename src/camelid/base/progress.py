"""Progress of long jobs: a live line on a terminal, plain lines elsewhere, nothing outside the main process.

Lines go to standard error, so that standard output has only results. rich honours NO_COLOR.
"""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

logger = logging.getLogger(__name__)

T = TypeVar("T")

PLAIN_INTERVAL = 5.0
"""Seconds between two lines of `track` without a terminal."""
PACE_MEMORY = 0.9
"""Weight of the past in the running mean of the seconds per step."""


class Update(Protocol):
    """The metrics of one update, such as `train.loop.Step`."""

    @property
    def number(self) -> int: ...  # noqa: D102
    @property
    def loss(self) -> float: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def grad_norm(self) -> float: ...  # noqa: D102
    @property
    def tokens(self) -> int: ...  # noqa: D102
    @property
    def trained_tokens(self) -> int: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102


class Validation(Protocol):
    """A validation result, such as `train.fit.ValidationLoss`."""

    @property
    def nats_per_token(self) -> float: ...  # noqa: D102
    @property
    def bits_per_byte(self) -> float: ...  # noqa: D102


class StepLog:
    """One line per step: `step loss lr grad_norm tok/s mfu mem eta`; a context manager.

    `flops_share`: FLOPs per token divided by the machine's peak FLOP/s; times tokens per second it is the MFU
    (model FLOPs utilisation; PaLM, arXiv:2204.02311, appendix B). Each method returns the record for
    metrics.jsonl, in which `step` counts the updates made.
    """

    def __init__(
        self, total_steps: int, flops_share: float, show: bool = True, console: Console | None = None
    ) -> None:
        self.total_steps = total_steps
        self.flops_share = flops_share
        self.show = show
        self.console = console or Console(stderr=True, highlight=False)
        self._seconds_a_step: float | None = None
        self._bar = _bar(self.console)
        self._task = self._bar.add_task("training", total=total_steps)
        self._live = Live(console=self.console) if show and self.console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, update: Update) -> dict[str, Any]:
        """Shows one update and returns its record."""
        done = update.number + 1
        pace = update.seconds if self._seconds_a_step is None else self._seconds_a_step
        self._seconds_a_step = PACE_MEMORY * pace + (1 - PACE_MEMORY) * update.seconds
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
            "mfu": speed * self.flops_share,
            "memory_bytes": memory_bytes(),
        }
        line = (
            f"step {done}/{self.total_steps}  loss {update.loss:.4f}  lr {update.learning_rate:.2e}  "
            f"grad_norm {update.grad_norm:.2f}  tok/s {speed:,.0f}  mfu {record['mfu']:.1%}  "
            f"mem {in_bytes(record['memory_bytes'])}"
        )
        if self._live is not None:
            self._bar.update(self._task, completed=done)
            self._live.update(Group(self._bar, Text(line)))
        else:
            left = (self.total_steps - done) * self._seconds_a_step
            self._say(f"{line}  eta {in_time(left)}")
        return record

    def validation(self, number: int, result: Validation) -> dict[str, Any]:
        """Shows the validation after update `number` (from 0) and returns its part of the record."""
        self._say(
            f"step {number + 1}/{self.total_steps}  validation loss {result.nats_per_token:.4f}  "
            f"bits/byte {result.bits_per_byte:.4f}"
        )
        return {"validation_loss": result.nats_per_token, "validation_bits_per_byte": result.bits_per_byte}

    def _say(self, line: str) -> None:
        if self._live is not None:
            self.console.print(line, markup=False, soft_wrap=True)
        elif self.show:
            logger.info(line)


def track(items: Iterable[T], label: str, total: int | None = None, *, show: bool = True) -> Iterator[T]:
    """Yields the items with a progress bar on a terminal, or a line every few seconds elsewhere."""
    console = Console(stderr=True, highlight=False)
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not show:
        yield from items
    elif console.is_terminal:
        with _bar(console) as bar:
            yield from bar.track(items, total=total, description=label)
    else:
        yield from _plain(items, label, total)


def _plain(items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
    began = shown = time.monotonic()
    of = "" if total is None else f"/{total}"
    count = 0
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= PLAIN_INTERVAL:
            left = "" if total is None else f", {in_time((total - count) * (now - began) / count)} left"
            logger.info(f"{label}: {count}{of}{left}")
            shown = now
    logger.info(f"{label}: {count}{of}, {in_time(time.monotonic() - began)}")


def memory_bytes() -> int:
    """Bytes in use: the peak of the GPU allocator with a GPU, else the resident memory of this process."""
    # Looked up, not imported: stages without torch also show progress.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)


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


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=console,
    )
