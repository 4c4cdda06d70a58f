"""A server on 127.0.0.1 that answers as its script says."""

import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A response: an object is sent as JSON."""

    body: Any = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


class Script(ThreadingHTTPServer):
    """`answers` come in turn, the last one for ever; `answer` decides instead where it is set.

    `models` is the list of models; `asked` holds each request's path, body and Authorization.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.answers: list[Answer] = []
        self.answer: Callable[[str, Any], Answer] | None = None
        self.models: Any = {"data": [{"id": "llama"}]}
        self.asked: list[tuple[str, Any, str | None]] = []
        self.listed = 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Clients may give up; a traceback would parse code, which Python 3.11 cannot do in two threads."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def next(self, path: str, body: Any) -> Answer:
        if self.answer is not None:
            return self.answer(path, body)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Handler(BaseHTTPRequestHandler):
    server: Script

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.listed += 1
        models = self.server.models
        self.send(models if isinstance(models, Answer) else Answer(models))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body, self.headers.get("Authorization")))
        self.send(self.server.next(self.path, body))

    def send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # clients that lose patience are what some tests are about
            self.wfile.write(answer.content)
