"""`camelid check URL`: our server passes every check, and each check finds the server that it is about."""

import asyncio
import itertools
import json
import random
import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from running_server import PATIENCE
from running_server import Server as Running
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from camelid.base.errors import CamelidError
from camelid.cli import main as cli
from camelid.workflows.server_gates import CHECKS, Server

Body = dict[str, Any]
NUMBERS = itertools.count()
HELLO = {"role": "user", "content": "a"}


def without(*names: str) -> Callable[[Body], Body]:
    return lambda body: {key: value for key, value in body.items() if key not in names}


def with_changed(**values: Any) -> Callable[[Body], Body]:
    return lambda body: body | {name: value for name, value in values.items() if name in body}


def known_only(body: Body) -> Body:
    return {key: value for key, value in body.items() if not key.startswith("zq")}


def shortened(body: Body) -> Body:
    messages = [each | {"content": each["content"][:40]} for each in body.get("messages", [])]
    return body | ({"messages": messages} if messages else {})


REQUESTS: dict[str, Callable[[Body], Body]] = {
    "token limit": without("max_tokens"),
    "stop strings": without("stop"),
    "seed": lambda body: body | ({"seed": next(NUMBERS)} if "seed" in body else {}),
    "samples": without("n"),
    "schema": without("response_format"),
    "bad schema": without("response_format"),
    "long prompt": shortened,
    "unknown field": known_only,
    "unknown model": with_changed(model="tiny"),
    "negative limit": with_changed(max_tokens=4),
    "wrong type": with_changed(temperature=0),
    "empty messages": lambda body: (
        body | {"messages": body["messages"] or [{"role": "user", "content": "a"}]}
    ),
    "tools": without("tools"),
}


def said_otherwise(content: Any, words: str) -> Any:
    for choice in content.get("choices", ()):
        if "message" in choice:
            choice["message"]["content"] += words
    return content


def scored_nothing(content: Any, _: Any) -> Any:
    for choice in content.get("choices", ()):
        choice["logprobs"] = None
    return content


def miscounted(content: Any, _: Any) -> Any:
    if "usage" in content:
        content["usage"]["total_tokens"] += 1
    return content


RESPONSES: dict[str, Callable[[Any, Any], Any]] = {
    "answers": lambda content, _: content | ({"choices": []} if "choices" in content else {}),
    "usage": miscounted,
    "stream equals whole": lambda content, _: said_otherwise(content, "!"),
    "batch": lambda content, state: said_otherwise(content, "!" if state["most"] > 1 else ""),
    "cache": lambda content, state: said_otherwise(content, "!" if state["repeated"] else ""),
    "tools": lambda content, _: said_otherwise(content, '<tool_call>{"name": "f"}</tool_call>'),
    "prompt scores": scored_nothing,
}


class Broken:
    """A server in front of another one, with one fault."""

    def __init__(self, url: str, fault: str) -> None:
        self.url, self.fault = url, fault
        self.seen: Counter[bytes] = Counter()
        self.running = 0
        self.app = Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])

    async def answer(self, request: Request) -> Response:
        raw, most = await request.body(), 1
        if self.fault == "no JSON" and raw == b"{":
            return Response('{"ok": true}', media_type="application/json")
        if raw and raw != b"{" and self.fault in REQUESTS:
            raw = json.dumps(REQUESTS[self.fault](json.loads(raw))).encode()
        self.running += 1
        await asyncio.sleep(0.02 if self.fault == "batch" else 0)
        most = self.running
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            response = await client.request(request.method, f"{self.url}{request.url.path}", content=raw)
        self.running -= 1
        content, kind = response.content, response.headers["content-type"]
        if self.fault in RESPONSES and "json" in kind and response.is_success:
            state = {"most": most, "repeated": self.seen[raw]}
            content = json.dumps(RESPONSES[self.fault](json.loads(content), state)).encode()
        self.seen[raw] += 1
        return Response(content, response.status_code, media_type=kind)


@pytest.fixture(scope="module", autouse=True)
def small_contexts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("camelid.workflows.server_gates.LONG_WORDS", 400)
        yield


def test_our_server_passes_every_check(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", url]) == 0
    shown = capsys.readouterr().out
    assert shown.count("  ok ") == len(CHECKS)
    assert "schema: kept to" in shown
    assert "prompt scores: refused" not in shown


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_finds_its_fault(url: str, name: str) -> None:
    assert (name in REQUESTS) or (name in RESPONSES) or name == "no JSON"
    random.seed(0)
    with Running(Broken(url, name).app) as broken, pytest.raises(CamelidError):
        CHECKS[name](Server(broken.url))


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "http://127.0.0.1:9"]) == 1
    assert "ConnectError" in capsys.readouterr().out


class OnceEach(socketserver.StreamRequestHandler):
    """Keeps a connection, and ends it when it is used again."""

    def handle(self) -> None:
        for line in self.rfile:
            if not line.strip():
                self.wfile.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
                )
                self.rfile.readline()
                return


def test_a_connection_that_the_server_ends_is_no_fault() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), OnceEach) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            asked = Server(f"http://127.0.0.1:{server.server_address[1]}")
            assert [asked.ask(None, "models").status for _ in range(3)] == [200, 200, 200]
        finally:
            server.shutdown()
