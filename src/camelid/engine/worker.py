"""The one thread that computes for an engine, and touches its scheduler, its cache and its decoder.

Others hand it tasks, and read what came of them from queues.
"""

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

import torch

from camelid.base.errors import CamelidError

CLOSED = "this engine is closed; make a new one"
FORKED = "the process was forked, and this request runs in the parent: ask again in the child"
LAST_STEP_SECONDS = 10.0
"""How long the end of the process waits for a step."""
Result = TypeVar("Result")


class Service(Protocol):
    """What the thread keeps going."""

    def advance(self) -> bool:
        """Computes a step where there is anything to compute; whether there was."""

    def abandon(self, error: BaseException) -> None:
        """Ends every request with an error."""


class Worker:
    """Runs tasks one after the other, and between them the steps of its services, under `torch.inference_mode`.

    The thread starts with the first task and sleeps while there is nothing to do. It ends with `close`, with the last
    reference to the worker, and with the process. A forked child has none of its parent's requests, and makes a thread of
    its own. torch computes on as many threads as it would for whoever asked last.
    """

    def __init__(self) -> None:
        self._shared = _Shared()
        weakref.finalize(self, self._shared.stop).atexit = False

    @property
    def is_current(self) -> bool:
        """Whether the caller is a task or a step."""
        return threading.current_thread() is self._shared.thread

    def add(self, service: Service) -> None:
        """Keeps a service going as long as somebody holds it."""
        self._shared.services.add(service)

    def call(self, task: Callable[[], Result]) -> Result:
        """What a task gives, or raises."""
        return task() if self.is_current else self.post(task).result()

    def post(self, task: Callable[[], Result]) -> "Future[Result]":
        """The same without waiting; raises `CamelidError` where the worker is closed."""
        posted = _Task(task)
        self._shared.post(posted)
        return posted.future

    def close(self) -> None:
        """Ends all requests, with an error, and the thread."""
        self._shared.stop()
        self._shared.join()


class _Task:
    def __init__(self, task: Callable[[], Any]) -> None:
        self.task, self.future = task, Future[Any]()
        self.threads = torch.get_num_threads()

    def run(self) -> None:
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        try:
            self.future.set_result(self.task())
        except BaseException as error:
            self.future.set_exception(error)


class _Shared:
    """What the thread and its worker share: the thread holds no worker, so that the worker's end may be the thread's."""

    def __init__(self) -> None:
        self.services: weakref.WeakSet[Service] = weakref.WeakSet()
        self.closed = False
        self.renew()
        WORKERS.add(self)

    def renew(self) -> None:
        """Without a thread, as at the beginning."""
        self.thread: threading.Thread | None = None
        # It may be put into from a finalizer, unlike other queues. None ends the thread.
        self.inbox: SimpleQueue[_Task | None] = SimpleQueue()
        self.posting = threading.RLock()
        # Held while anything is computed: nobody forks in the middle of a step.
        self.turn = threading.RLock()

    def post(self, task: _Task) -> None:
        with self.posting:
            if self.closed:
                raise CamelidError(CLOSED)
            self.inbox.put(task)
            if self.thread is None:
                self.thread = threading.Thread(target=_serve, args=(self,), name="camelid", daemon=True)
                self.thread.start()

    def stop(self) -> None:
        with self.posting:
            if not self.closed:
                self.closed = True
                self.inbox.put(None)

    def join(self, timeout: float | None = None) -> None:
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join(timeout)

    def advance(self) -> bool:
        with self.turn:
            return sum(_advance(service) for service in [*self.services]) > 0

    def abandon(self, error: CamelidError) -> None:
        for service in [*self.services]:
            service.abandon(error)


def _serve(shared: _Shared) -> None:
    busy = False
    with torch.inference_mode():
        while True:
            try:
                task = shared.inbox.get(block=not busy)
            except Empty:
                busy = shared.advance()
                continue
            if task is None:
                break
            with shared.turn:
                task.run()
            del task  # and what it holds, before a long sleep
            busy = True
        shared.abandon(CamelidError(CLOSED))
        while not shared.inbox.empty():
            if left := shared.inbox.get():
                left.future.set_exception(CamelidError(CLOSED))


def _advance(service: Service) -> bool:
    try:
        return service.advance()
    except BaseException as error:  # the thread serves others too
        service.abandon(error)
        return False


WORKERS: weakref.WeakSet[_Shared] = weakref.WeakSet()
FORKING = threading.RLock()


def _before_fork() -> None:
    FORKING.acquire()
    for shared in [*WORKERS]:
        shared.turn.acquire()


def _after_fork() -> None:
    for shared in [*WORKERS]:
        shared.turn.release()
    FORKING.release()


def _after_fork_in_child() -> None:
    for shared in [*WORKERS]:
        shared.renew()
        shared.abandon(CamelidError(FORKED))
    FORKING.release()


@atexit.register
def _end() -> None:
    for shared in [*WORKERS]:
        shared.stop()
    for shared in [*WORKERS]:
        shared.join(LAST_STEP_SECONDS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
