"""Ctrl-C, SIGTERM and a closed terminal stop a run between two updates, never within one."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from camelid.base.logs import leave_terminal

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Whether the run should stop after the current update."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_between_steps() -> Iterator[StopRequest]:
    """Turns the first SIGINT, SIGTERM or SIGHUP into a `StopRequest`; a second SIGINT interrupts at once.

    Signals that were ignored stay ignored: SIGHUP under `nohup`, SIGINT in a script's background jobs. Only
    the main thread can handle signals; elsewhere (a notebook's worker, a server) this does nothing.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle_signal(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = number

    before = {number: signal.signal(number, handle_signal) for number in STOPPING if _is_heeded(number)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_heeded(number: signal.Signals) -> bool:
    # Under `nohup torchrun`, torchrun does not ignore SIGHUP: it passes it on, and kills who has not stopped.
    of_torchrun = number == signal.SIGHUP and "TORCHELASTIC_RUN_ID" in os.environ
    return of_torchrun or signal.getsignal(number) is not signal.SIG_IGN
