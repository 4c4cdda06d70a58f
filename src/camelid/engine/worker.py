"""The one thread that computes for an engine, and touches its scheduler, its cache and its decoder.

Others hand it tasks, and read what came of them from queues.
"""

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import torch

from camelid.base.cores import sharing_cores
from camelid.base.errors import CamelidError

CLOSED = "this engine is closed; make a new one"
FORKED = "the process was forked, and this request runs in the parent: ask again in the child"
LAST_STEP_SECONDS = 10.0
"""How long the end of the process waits for a step."""
Result = TypeVar("Result")


class Service(Protocol):
    """A source of work for the thread, such as a scheduler with requests."""

    def advance(self) -> bool:
        """Computes a step if there is work; whether there was."""

    def abandon(self, error: BaseException) -> None:
        """Ends every request with an error, also those that nobody waits for."""


class Worker:
    """Runs tasks one by one, and steps of its services between them, under `torch.inference_mode`.

    The thread starts with the first task and sleeps while there is nothing to do. It ends with `close`, with
    the last reference to the worker, and with the process. A forked child has none of its parent's requests,
    and makes a thread of its own. torch uses as many threads as it would for the last caller.
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
        if not self.future.set_running_or_notify_cancel():
            return  # nobody waits for it any more
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        try:
            self.future.set_result(self.task())
        except BaseException as error:
            self.future.set_exception(error)


class _Shared:
    """What the thread and its worker share: the thread holds no worker, so that the worker's end may be the
    thread's."""

    def __init__(self) -> None:
        self.services: weakref.WeakSet[Service] = weakref.WeakSet()
        self.closed = False
        self.renew()
        with FORKING:
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
            if self.thread is None:
                thread = threading.Thread(target=_serve, args=(self,), name="camelid", daemon=True)
                thread.start()
                self.thread = thread
            self.inbox.put(task)  # after the thread is known: a task asks whether it is the thread's

    def stop(self) -> None:
        with self.posting:
            if not self.closed:
                self.closed = True
                self.inbox.put(None)

    def join(self, timeout: float | None = None) -> None:
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join(timeout)

    def advance(self, services: list[Service]) -> list[Service]:
        """A step of each; those that are not done."""
        _let_forks_pass()
        with self.turn:
            return [service for service in services if _advance(service)]

    def abandon(self, error: CamelidError) -> None:
        with ExitStack() as stack:  # all of them, also where one raises
            for service in [*self.services]:
                stack.callback(service.abandon, error)

    def end(self) -> None:
        """Ends all requests, and refuses those that wait and those to come."""
        self.stop()
        try:
            self.abandon(CamelidError(CLOSED))
        finally:
            while not self.inbox.empty():
                if task := self.inbox.get():
                    task.future.set_exception(CamelidError(CLOSED))


def _serve(shared: _Shared) -> None:
    with torch.inference_mode(), sharing_cores():
        try:
            _work(shared)
        finally:  # also after an unexpected failure of a service, whose callers must not wait forever
            shared.end()


def _work(shared: _Shared) -> None:
    # Those that had something to compute ever since the last task: only a task gives them more.
    services: list[Service] = []
    while True:
        if services and shared.inbox.empty():
            services = shared.advance(services)
            continue
        task = shared.inbox.get()
        if task is None:
            break
        _let_forks_pass()
        with shared.turn:
            task.run()
        del task  # and what it holds, before a long sleep
        services = [*shared.services]


def _advance(service: Service) -> bool:
    try:
        return service.advance()
    except BaseException as error:  # the thread serves others too
        service.abandon(error)
        return False


WORKERS: weakref.WeakSet[_Shared] = weakref.WeakSet()
FORKING = threading.RLock()
"""Held while the process forks, and by who adds to `WORKERS`."""
HELD: list[_Shared] = []
"""Those whose turn is held while the process forks."""


def _let_forks_pass() -> None:
    """Waits for whoever forks: a turn that is given back and taken again at once would let it wait for many
    steps."""
    with FORKING:
        pass


def _before_fork() -> None:
    FORKING.acquire()
    HELD[:] = WORKERS
    for shared in HELD:
        shared.turn.acquire()


def _after_fork() -> None:
    for shared in HELD:
        shared.turn.release()
    HELD.clear()
    FORKING.release()


def _after_fork_in_child() -> None:
    HELD.clear()
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
