"""One line of JSON for each request, without what was asked and answered unless that is wanted."""

import json
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from camelid.base.errors import CamelidError, reason_of

logger = logging.getLogger(__name__)
_noted: ContextVar[dict[str, Any]] = ContextVar("noted")
MOST_PATH = 200
"""Characters of a path that are logged."""
GONE = 499
"""The status of a request whose client left before its response, as nginx logs it."""


def note(**facts: Any) -> None:
    """Adds to the line of the request that is being answered."""
    if (noted := _noted.get(None)) is not None:
        noted.update(facts)


class RequestLog:
    """The ASGI middleware that logs requests, each with an id that its response has as `x-request-id`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, request_id = time.perf_counter(), f"req_{secrets.token_hex(12)}"
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request": request_id,
            "method": scope["method"],
            "path": scope["path"][:MOST_PATH],
        }
        token = _noted.set(line)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                line["status"] = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = headers["request-id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            line.setdefault("status", GONE)
            line["seconds"] = round(time.perf_counter() - began, 6)
            logger.info(json.dumps(line))
            _noted.reset(token)


@contextmanager
def logging_to(file: Path | None) -> Iterator[None]:
    """Appends the lines to a file while the block runs; without one they go where the program logs."""
    if file is None:
        yield
        return
    try:
        handler = logging.FileHandler(file, encoding="utf-8")
    except OSError as error:
        raise CamelidError(f"--log {file}: cannot be written: {reason_of(error).lower()}") from error
    logger.addHandler(handler)
    logger.propagate, level = False, logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        logger.setLevel(level)
        handler.close()
