"""Several calls at a time in threads, each result as soon as it is there."""

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

Value = TypeVar("Value")
Result = TypeVar("Result")


def finished(
    function: Callable[[Value, threading.Event], Result], values: Sequence[Value], parallel: int
) -> Generator[tuple[int, Future[Result]], None, None]:
    """Yields each value's index and the future of its call when that is done, `parallel` calls at a time.

    The function is given an event that is set when the caller stops, as after Ctrl-C; no further call begins
    or is waited for then.
    """
    pool, stop = ThreadPoolExecutor(parallel), threading.Event()
    try:
        futures = {pool.submit(function, value, stop): index for index, value in enumerate(values)}
        for future in as_completed(futures):
            yield futures[future], future
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
