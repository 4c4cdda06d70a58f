"""The engine's answers in a coroutine: its thread computes, the event loop only waits."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from starlette.requests import Request as HttpRequest

from camelid.engine.generation import Generation
from camelid.engine.running import Request
from camelid.serve.errors import ApiError
from camelid.serve.models import Served
from camelid.serve.request_log import note

AnyRequest = TypeVar("AnyRequest", bound=Request)
Value = TypeVar("Value")


class Inbox:
    """Updates that the engine's thread puts in, and a coroutine takes out."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[Request, bool]] = asyncio.Queue()

    def put(self, update: tuple[Request, bool], /) -> None:
        """From any thread; an update after the end of the server is dropped."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, update)

    async def take(self, timeout: float | None = None) -> tuple[Request, bool]:
        """The next update; raises `TimeoutError` after as many seconds."""
        return await asyncio.wait_for(self._queue.get(), timeout)


async def advancing(
    served: Served, requests: Sequence[AnyRequest], *, every_token: bool, pause: float | None = None
) -> AsyncIterator[tuple[AnyRequest, bool] | None]:
    """Each request after each of its tokens, or at its end, and whether it has ended; None when nothing came
    for `pause` seconds.

    Whoever stops listening cancels what is left, and its memory is free after the current step. Raises the
    error of the first request that failed.
    """
    engine, inbox, left = served.engine, Inbox(), len(requests)
    entered = asyncio.wrap_future(engine.enter(requests, inbox, every_token))
    try:
        await entered
        while left:
            try:
                request, ended = await inbox.take(pause)
            except TimeoutError:
                yield None
                continue
            left -= ended
            if request.error is not None:
                raise request.error
            yield request, ended  # type: ignore[misc]  # one of those that were entered
    finally:
        if left:
            engine.leave(inbox)
        prompt = sum(len(each.prompt) for each in requests)
        completion = sum(len(each.tokens) for each in requests if isinstance(each, Generation))
        served.counted.prompt += prompt
        served.counted.completion += completion
        note(model=served.name, prompt_tokens=prompt, completion_tokens=completion)


async def finished(served: Served, requests: Sequence[Request]) -> None:
    """Waits until all have ended."""
    async for _ in advancing(served, requests, every_token=False):
        pass


async def unless_gone(http: HttpRequest, work: "asyncio.Task[Value]") -> Value:
    """What the work gives; it is cancelled where the client closes the connection first."""
    gone = asyncio.create_task(_closed(http))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ApiError(499, "the client closed the connection")
        return work.result()
    finally:
        for task in (work, gone):
            task.cancel()


async def _closed(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


class Clock:
    """When a request began and had its first token, for the `timings` of a response."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._first: float | None = None

    def tick(self) -> None:
        """Notes a token."""
        if self._first is None:
            self._first = time.perf_counter()

    def timings(self, completion_tokens: int) -> dict[str, float]:
        """Milliseconds to the first token, and from there on; tokens a second."""
        end = time.perf_counter()
        first = self._first or end
        predicted = end - first
        rate = (completion_tokens - 1) / predicted if completion_tokens > 1 and predicted else 0.0
        return {
            "first_token_ms": round(1000 * (first - self._began), 3),
            "predicted_ms": round(1000 * predicted, 3),
            "predicted_per_second": round(rate, 2),
        }
