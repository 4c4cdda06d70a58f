"""Slow, vanishing and many clients, and the end of the server: others do not notice, and memory is freed."""

import asyncio
import importlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from running_server import PATIENCE, Server, get, post

from camelid.cli import main as cli
from camelid.engine.engine import Engine
from camelid.engine.generation import Generation
from camelid.engine.scheduler import Scheduler
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.serve.app import make_app
from camelid.serve.connection import Patience
from camelid.serve.guard import Bucket, Rules
from camelid.serve.models import Models, Served

ASK = {"messages": [{"role": "user", "content": "the cat sat"}], "temperature": 0}
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def models_of(engine: Engine) -> Models:
    return Models([Served("tiny", engine)])


def everything(client: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    client.settimeout(PATIENCE)
    got = b""
    while piece := client.recv(65536):
        got += piece
    return got


def error_of(response: bytes) -> str:
    text: str = json.loads(response.partition(b"\r\n\r\n")[2])["error"]["message"]
    return text


@pytest.fixture
def slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of a hundred tokens takes at least three seconds."""
    step = Scheduler.step

    def slowly(scheduler: Scheduler) -> object:
        time.sleep(0.03)
        return step(scheduler)

    monkeypatch.setattr(Scheduler, "step", slowly)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Generation]:
    """Generations that were made."""
    made: list[Generation] = []
    request = Engine.request

    def noting(*given: object, **named: object) -> Generation:
        made.append(request(*given, **named))
        return made[-1]

    monkeypatch.setattr(Engine, "request", noting)
    return made


def wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_headers_that_do_not_end(engine: Engine) -> None:
    app = make_app(models_of(engine))
    with Server(app, patience=Patience(head=0.4)) as server:
        for sent in (b"", b"POST /v1", HEAD):
            with socket.create_connection(server.address) as client:
                client.sendall(sent)
                response = everything(client)
            assert response.startswith(b"HTTP/1.1 408 ")
            assert error_of(response) == "the request's headers took more than 0.4 seconds"
        with httpx.Client(timeout=PATIENCE) as kept:  # between two requests a connection may rest
            assert kept.get(f"{server.url}/health").is_success
            assert kept.get(f"{server.url}/health").is_success


def test_a_body_that_does_not_come(engine: Engine) -> None:
    with Server(make_app(models_of(engine), body_seconds=0.3)) as server:
        with socket.create_connection(server.address) as client:
            client.sendall(HEAD + b'Content-Length: 100\r\n\r\n{"mess')
            response = everything(client)
        assert response.startswith(b"HTTP/1.1 408 ")
        assert error_of(response) == "the body took more than 0.3 seconds"


def test_a_client_that_reads_nothing(engine: Engine) -> None:
    """It is cut off, and meanwhile others are answered."""
    with Server(make_app(models_of(engine)), patience=Patience(stall=1.0)) as server:
        ends: list[OSError] = []

        def ask_and_never_read() -> None:
            with socket.create_connection(server.address) as client:
                client.settimeout(PATIENCE)
                request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 1000
                try:
                    while True:
                        client.sendall(request)
                except OSError as error:
                    ends.append(error)

        thread = threading.Thread(target=ask_and_never_read)
        thread.start()
        answers = 0
        while not ends:
            response = post(f"{server.url}/v1/chat/completions", json=ASK | {"max_tokens": 4})
            answers += response.is_success
        thread.join(PATIENCE)
        assert answers > 1
        assert not isinstance(ends[0], TimeoutError)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_vanishes(
    engine: Engine, slow_steps: None, begun: list[Generation], stream: bool
) -> None:
    body = json.dumps(ASK | {"max_tokens": 100, "stream": stream}).encode()
    with Server(make_app(models_of(engine))) as server:
        with socket.create_connection(server.address) as client:
            client.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_for(lambda: bool(begun and begun[0].tokens))
        wait_for(lambda: not engine.decoder.pool.used)
        [generation] = begun
        assert generation.cancelled
        assert len(generation.tokens) < 60  # of the hundred


def test_two_hundred_connections_at_once(engine: Engine) -> None:
    async def ask_all(url: str) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(limits=limits, timeout=PATIENCE) as client:
            body = ASK | {"max_tokens": 3}
            return await asyncio.gather(
                *[client.post(f"{url}/v1/chat/completions", json=body) for _ in range(200)]
            )

    with Server(make_app(models_of(engine))) as server:
        idle = [socket.create_connection(server.address) for _ in range(50)]
        responses = asyncio.run(ask_all(server.url))
        for each in idle:
            each.close()
        statuses = [each.status_code for each in responses]
        assert set(statuses) <= {200, 429}
        assert statuses.count(200) >= 64
        texts = {each.json()["choices"][0]["message"]["content"] for each in responses if each.is_success}
        assert len(texts) == 1
        assert not engine.decoder.pool.used


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The client of `bench/serve.py`."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    return importlib.import_module("serve_load")


@pytest.mark.parametrize(
    ("piece", "ended"),
    [({"choices": [{"text": "error"}]}, True), ({"error": {"message": "out of memory"}}, False)],
)
def test_the_load_tells_a_failed_stream_from_one_that_says_error(
    load: ModuleType, piece: dict[str, Any], ended: bool
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"data: %s\n\n" % json.dumps(piece).encode())
        writer.write(b"data: [DONE]\n\n")
        writer.close()

    async def asked() -> Any:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            return await load.ask(server.sockets[0].getsockname()[1], "/", {})

    answer = asyncio.run(asked())
    assert answer.ended is ended
    assert ("out of memory" in answer.error) is not ended


def test_more_than_its_capacity(engine: Engine, slow_steps: None, load: ModuleType) -> None:
    """The soak of `bench/serve.py` for three seconds: each request is answered whole or refused by 429."""
    with Server(make_app(models_of(engine), Rules(most_of_one=8))) as server:
        ends = asyncio.run(load.mixed_load(server.address[1], seconds=3, rate=30, most_words=8))
        wait_for(lambda: not engine.decoder.pool.used)
    assert {"200", "429"} <= set(ends) <= {"200", "429", "left"}, ends
    assert not engine.scheduler.running
    assert not engine.scheduler.waiting


def test_a_rate_is_kept(engine: Engine) -> None:
    with Server(make_app(models_of(engine), Rules(rate=3))) as server:
        ask = f"{server.url}/v1/completions"
        responses = [post(ask, json={"prompt": "a", "max_tokens": 1}) for _ in range(4)]
        assert [each.status_code for each in responses] == [200, 200, 200, 429]
        assert 1 <= int(responses[-1].headers["retry-after"]) <= 20
        assert "more than 3 requests in a minute" in responses[-1].text
    bucket = Bucket(2, 0.0)
    assert [bucket.take(0.0), bucket.take(0.0), bucket.take(0.0)] == [0, 0, 30]
    assert (bucket.take(30.0), bucket.is_full(30.0), bucket.is_full(90.0)) == (0, False, True)


def test_answers_have_a_limit(engine: Engine) -> None:
    models = Models([Served("tiny", engine, most_tokens=5)])
    with Server(make_app(models)) as server:
        ask = f"{server.url}/v1/chat/completions"
        assert post(ask, json=ASK).json()["usage"]["completion_tokens"] <= 5
        refused = post(ask, json=ASK | {"max_tokens": 6})
        assert "max_tokens is 6; answers have at most 5 tokens" in refused.text
        many = post(f"{server.url}/v1/completions", json={"prompt": ["a"] * 1025, "n": 2, "max_tokens": 1})
        assert "at most 2048 answers" in many.text


def test_the_end_is_in_time(engine: Engine, slow_steps: None) -> None:
    """Running answers have the grace period, then they end with an error in the API's shape."""
    with Engine(engine.model, engine.tokenizer) as own:
        models = models_of(own)
        with Server(make_app(models), models, grace_seconds=0.4) as server:
            lines: list[str] = []
            body = ASK | {"max_tokens": 100, "stream": True}
            with httpx.stream(
                "POST", f"{server.url}/v1/chat/completions", json=body, timeout=PATIENCE
            ) as stream:
                for line in stream.iter_lines():
                    lines.append(line)
                    if len(lines) == 5:
                        began, server.should_exit = time.monotonic(), True
            server.thread.join(PATIENCE)
            assert 0.3 < time.monotonic() - began < 30  # the machine may be busy
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert events[-1]["error"]["message"] == "the server ends, and could not finish this answer"
    assert lines[-2] == "data: [DONE]"


def test_the_command_logs_and_ends(engine: Engine, tmp_path: Path) -> None:
    """From start to SIGTERM: a line of JSON for each request, without its prompt."""
    folder, log = tmp_path / "small", tmp_path / "requests.jsonl"
    folder.mkdir()
    save_checkpoint(folder, engine.model)
    engine.tokenizer.save(folder)
    words = [sys.executable, "-m", "camelid", "serve", str(folder), "--port", "0", "--log", str(log)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = next(line.split()[0] for line in process.stderr if "is the page" in line)
        response = post(f"{url}/v1/chat/completions", json=ASK | {"max_tokens": 3})
        get(f"{url}/nowhere")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) in (0, 128 + signal.SIGTERM)
    first, second = map(json.loads, log.read_text().splitlines())
    assert (first["path"], first["status"], first["model"]) == ("/v1/chat/completions", 200, "small")
    assert (first["prompt_tokens"] > 3, first["completion_tokens"]) == (True, 3)
    assert first["request"] == response.headers["x-request-id"]
    assert (second["path"], second["status"], second["client"]) == ("/nowhere", 404, "127.0.0.1")
    assert "cat" not in log.read_text()


def test_a_log_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "nowhere", "--port", "0", "--log", str(tmp_path / "no" / "log")]) == 1
    assert "cannot be written" in capsys.readouterr().err
