"""Work in several processes whose results come in order, with only a few items in memory."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from camelid.base.cluster import Cluster
from camelid.base.errors import CamelidError
from camelid.base.parent import end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    items: Iterable[Item],
    start: Callable[..., Callable[[Item], Result]],
    arguments: tuple[Any, ...],
    workers: int,
    flag: str,
    on: str | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Each item with its result, in order, for any number of workers; at most two per worker are in flight.

    start: called once in each process with `arguments`, gives the function that does the work. With one
    worker it is done here. The processes end with this one. on: a Ray cluster that does the work instead, see
    `Cluster`. Raises the work's own errors, and `CamelidError` if a process is killed, which names the `flag`
    of their number.
    """
    if on is not None:
        yield from Cluster(on, start, arguments).in_order(items)
        return
    if workers == 1:
        work = start(*arguments)
        yield from ((item, work(item)) for item in items)
        return
    shared = (os.getpid(), start, arguments)
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), _begin, shared) as pool:
            waiting: deque[tuple[Item, Future[Result]]] = deque()
            for item in items:
                waiting.append((item, pool.submit(_run, item)))
                if len(waiting) == 2 * workers:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
    except BrokenProcessPool as error:
        raise CamelidError(
            f"one of {workers} processes was killed, perhaps for lack of memory; give fewer {flag}"
        ) from error


_work: Callable[[Any], Any] = str
"""The work of this process, once `_begin` has run in it."""


def _begin(parent: int, start: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]) -> None:
    global _work
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the parent ends these
    _work = start(*arguments)


def _run(item: Any) -> Any:
    return _work(item)
