"""Templates and schemas that go wrong, and tricks with headers: refused in the API's own shape."""

import contextlib
import json
import socket

import pytest
from running_server import PATIENCE, Server, post

from camelid.engine.engine import Engine
from camelid.serve.app import make_app
from camelid.serve.models import Models, Served
from camelid.text.tokenizer import Tokenizer

QUESTION = {"role": "user", "content": "the cat sat"}
BODY = json.dumps({"messages": [QUESTION], "max_tokens": 2}).encode()
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[9].content.x }}", "chat template"),
        ("{% for a in range(99999999) %}x{% endfor %}", "chat template"),
    ],
)
def test_a_template_that_fails(engine: Engine, template: str, words: str) -> None:
    tokenizer = Tokenizer(engine.tokenizer.backend, engine.tokenizer.config, chat_template=template)
    with Engine(engine.model, tokenizer) as own, Server(make_app(Models([Served("t", own)]))) as server:
        response = post(f"{server.url}/v1/chat/completions", content=BODY)
        assert response.status_code == 400
        assert words in response.json()["error"]["message"]


def test_a_schema_that_never_ends(url: str) -> None:
    """It is held to as far as the limit, or refused; other requests go on."""
    itself = {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}
    schema = {"$ref": "#/$defs/a", "$defs": {"a": itself}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    body = {"messages": [QUESTION], "max_tokens": 40, "response_format": form}
    response = post(f"{url}/v1/chat/completions", json=body)
    if response.is_success:
        assert response.json()["choices"][0]["finish_reason"] == "length"
    else:
        assert response.status_code == 400
    assert post(f"{url}/v1/chat/completions", content=BODY).is_success


@pytest.mark.parametrize(
    "head",
    [
        b"GARBAGE\r\n",
        LINE + b"Host: 127.0.0.1\r\nHost: evil.example\r\nContent-Length: %d\r\n" % len(BODY),
        LINE + b"Host: [\r\nContent-Length: %d\r\n" % len(BODY),
        LINE + b"Host: 127.0.0.1\r\nOrigin: http://[\r\nContent-Length: %d\r\n" % len(BODY),
        LINE + b"Host: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: %d\r\n" % len(BODY),
        LINE + b"Host: 127.0.0.1\r\nContent-Length: -1\r\n",
        LINE + b"Host: 127.0.0.1\r\nX-Long: " + b"x" * 100_000 + b"\r\n",
        LINE + b"Host: 127.0.0.1\r\nBad Name: x\r\nContent-Length: %d\r\n" % len(BODY),
        LINE + b"Host: 127.0.0.1\r\nTransfer-Encoding: gzip\r\n",
    ],
    ids=["no-http", "hosts", "no-host", "no-origin", "lengths", "negative", "long", "name", "encoding"],
)
def test_tricks_with_headers(url: str, head: bytes) -> None:
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=PATIENCE) as client:
        client.sendall(head + b"Connection: close\r\n\r\n" + BODY)
        response = b""
        with contextlib.suppress(ConnectionResetError):  # closed before all of a long head was read
            while piece := client.recv(65536):
                response += piece
    assert post(f"{url}/v1/chat/completions", content=BODY).is_success
    if not response and len(head) > 65536:
        return
    status, _, content = response.partition(b"\r\n\r\n")
    assert status.split()[1].startswith(b"4") or status.split()[1] == b"501"
    assert json.loads(content)["error"]["message"]
