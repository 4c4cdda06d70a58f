"""An engine's requests on its worker's thread: who listens to which, and the updates for each."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from camelid.base.errors import CamelidError
from camelid.engine.decoder import Decoder
from camelid.engine.running import NewText, Request
from camelid.engine.scheduler import Scheduler


class Updates(Protocol):
    """Where the engine's thread puts requests with new text, and whether they have ended."""

    def put(self, update: tuple[Any, bool], /) -> None:
        """Takes one update, without waiting."""


class Listener(NamedTuple):
    """Where updates on a request go: after each of its tokens, or at its end."""

    updates: Updates
    every_token: bool


class Listening:
    """Steps a scheduler while anybody listens to a request of it.

    decoders: those whose weights must not change in the meantime.
    """

    def __init__(self, scheduler: Scheduler, decoders: Sequence[Decoder]) -> None:
        self.scheduler, self.decoders = scheduler, decoders
        self._listeners: dict[Request, Listener] = {}

    def enter(self, requests: Sequence[Request], listener: Listener) -> None:
        """Queues requests; raises `WrongCall` where one was queued before, and queues none."""
        try:
            for request in requests:
                self.scheduler.submit(request)
                self._listeners[request] = listener
        except BaseException:
            self.leave(listener.updates)
            raise

    def leave(self, updates: Updates) -> None:
        """Nobody reads a queue any more: what is left of its requests is cancelled."""
        for request in [each for each, listener in self._listeners.items() if listener.updates is updates]:
            self.cancel(request)

    def cancel(self, request: Request) -> None:
        """Ends a request, wherever it is, and gives its part of the cache back."""
        self.scheduler.cancel(request)
        self._notify(request)

    def advance(self) -> bool:
        if self._listeners:
            self.step()
        return bool(self._listeners)

    def step(self) -> list[NewText]:
        """One step of the scheduler; the requests with new text, or at their end.

        Raises `CamelidError` where the weights have changed since they were read.
        """
        if not self.scheduler.running:
            self.check_weights()
        texts = self.scheduler.step()
        if any(request.ended for request, _ in texts):
            self.check_weights(parameters_only=True)  # a text must come from one model
        for request, _ in texts:
            self._notify(request)
        return texts

    def check_weights(self, parameters_only: bool = False) -> None:
        """Raises `CamelidError` where the decoders' weights have changed."""
        for decoder in self.decoders:
            decoder.weights.check(parameters_only)

    def abandon(self, error: BaseException) -> None:
        if not isinstance(error, Exception):
            error = CamelidError(f"the engine was interrupted: {error!r}")
        run = [each for running in self.scheduler.running for each in running.requests]
        requests = {*self._listeners, *self.scheduler.waiting, *run}
        try:
            for request in requests:
                self.scheduler.cancel(request)
        finally:
            for request in requests:
                if request.error is None:
                    request.fail(error)
                self._notify(request)

    def _notify(self, request: Request) -> None:
        listener, ended = self._listeners.get(request), request.ended
        if listener is None:
            return
        if ended:
            del self._listeners[request]
        if ended or listener.every_token:
            listener.updates.put((request, ended))
