"""A connection to the HTTP server that does not wait for slow clients, and refuses in the API's own shape."""

import asyncio
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from camelid.serve.errors import ApiError


@dataclass(frozen=True)
class Patience:
    """Seconds after which a connection is closed.

    head: for all of a request's line and headers; body: for its body; stall: in which a client reads nothing
    of an answer that is larger than what the system holds for it.
    """

    head: float = 10.0
    body: float = 30.0
    stall: float = 30.0


class Connection(H11Protocol):
    """uvicorn's connection with time-outs: it has one only between two requests."""

    def __init__(self, patience: Patience, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.patience = patience
        self._head: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._await_head()

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.their_state is not h11.IDLE and self._head is not None:
            self._head.cancel()
            self._head = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self.patience.stall, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def send_400_response(self, msg: str) -> None:
        """Refuses what is not HTTP."""
        self._refuse(ApiError(400, "this is not a valid HTTP request"))

    def _await_head(self) -> None:
        if self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(self.patience.head, self._head_is_late)

    def _head_is_late(self) -> None:
        self._refuse(ApiError(408, f"the request's headers took more than {self.patience.head:g} seconds"))

    def _refuse(self, error: ApiError) -> None:
        if self.transport.is_closing():
            return
        response = error.response("")
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [*response.raw_headers, (b"connection", b"close")]
            self.transport.write(
                self.conn.send(h11.Response(status_code=error.status, headers=headers)) or b""
            )
            self.transport.write(self.conn.send(h11.Data(data=bytes(response.body))) or b"")
            self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")
        self.transport.close()
