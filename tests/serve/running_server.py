"""A server in a thread of the test's process, on a port of its own."""

import socket
import threading
import time
from functools import partial
from typing import Any

import httpx

from camelid.serve import running
from camelid.serve.models import Models

PATIENCE = 120
"""Seconds after which something counts as never coming, on the slowest of machines."""
get, post = partial(httpx.get, timeout=PATIENCE), partial(httpx.post, timeout=PATIENCE)

CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
"""The parameters of a tool that tests let the model call."""


class Server(running.Server):
    """A server that tells its address; it runs until the block ends."""

    def __init__(self, app: Any, models: Models | None = None, **settings: Any) -> None:
        super().__init__(app, models or Models(()), **settings)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = self.listening.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self.thread = threading.Thread(target=self.run, kwargs={"sockets": [self.listening]}, daemon=True)

    def __enter__(self) -> "Server":
        self.thread.start()
        while not self.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.should_exit = True
        self.thread.join(PATIENCE)
