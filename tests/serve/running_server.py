"""A server in a thread of the test's process, on a port of its own."""

import socket
import threading
import time

import uvicorn


class Server(uvicorn.Server):
    """A server that tells its address; it runs until the block ends."""

    def __init__(self, app: object) -> None:
        super().__init__(uvicorn.Config(app, log_level="warning", access_log=False))  # type: ignore[arg-type]
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.thread = threading.Thread(target=self.run, kwargs={"sockets": [self.listening]}, daemon=True)

    def __enter__(self) -> "Server":
        self.thread.start()
        while not self.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.should_exit = True
        self.thread.join(10)
