"""Busy servers and broken connections: waiting as told, growing pauses with jitter, before streams too."""

import email.utils
import socket
import ssl
import threading
import time
from typing import Any

import httpx
import pytest
from scripted_server import Answer, Script

from camelid.base.errors import CamelidError, WrongCall
from camelid.lm.connection import FIRST_PAUSE, LONGEST_PAUSE, Patience
from camelid.lm.remote import RemoteLM

HI = Answer({"choices": [{"text": "Hi", "finish_reason": "stop"}]})
STREAM = Answer('data: {"choices": [{"text": "Hi", "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": "12"}, 12, 13.3),
        ({"Retry-After": "1.5"}, 1.5, 1.7),
        ({"retry-after-ms": "2500", "Retry-After": "3"}, 2.5, 2.8),
        ({"Retry-After": "DATE"}, 8, 11.1),
        ({"Retry-After": "0"}, FIRST_PAUSE / 2, FIRST_PAUSE),
        ({"Retry-After": "-5"}, FIRST_PAUSE / 2, FIRST_PAUSE),
        ({"Retry-After": "nan"}, FIRST_PAUSE / 2, FIRST_PAUSE),
        ({"Retry-After": "soon"}, FIRST_PAUSE / 2, FIRST_PAUSE),
        ({}, FIRST_PAUSE / 2, FIRST_PAUSE),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("stream", [False, True])
def test_it_waits_as_told(
    script: Script,
    waits: list[float],
    headers: dict[str, str],
    least: float,
    most: float,
    status: int,
    stream: bool,
) -> None:
    """Numbers, dates (retryhttp#8), and what is neither; also before a stream."""
    date = email.utils.formatdate(time.time() + 10, usegmt=True)
    headers = {name: value.replace("DATE", date) for name, value in headers.items()}
    script.answers = [Answer("slow down", status, headers), STREAM if stream else HI]
    lm = RemoteLM(script.url)
    assert ("".join(lm.stream("x")) if stream else lm.generate(["x"])[0][0].text) == "Hi"
    [waited] = waits
    assert least <= waited <= most


def test_pauses_grow_with_jitter_up_to_a_bound(script: Script, waits: list[float]) -> None:
    script.answers = [*[Answer("busy", 502)] * 9, HI]
    assert RemoteLM(script.url, retries=9).generate(["x"])[0][0].text == "Hi"
    mosts = [min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n in range(9)]
    assert all(most / 2 <= waited <= most for waited, most in zip(waits, mosts, strict=True))
    pauses = {Patience().pause(3, None) for _ in range(20)}
    assert len(pauses) > 1, "no jitter"
    assert all(Patience(longest_wait=1).pause(9, None) <= 1 for _ in range(20))


def test_it_gives_up_after_as_many_repetitions(script: Script, waits: list[float]) -> None:
    script.answers = [Answer("busy", 503)]
    with pytest.raises(CamelidError, match="HTTP 503 after 2 repetitions: busy"):
        RemoteLM(script.url, retries=2).generate(["x"])
    assert len(waits) == 2
    assert len(script.asked) == 3


def test_a_wait_that_is_too_long_is_refused(script: Script, waits: list[float]) -> None:
    """fetch-retry#31: a server may ask for two hours."""
    script.answers = [Answer("busy", 429, {"Retry-After": "3600"}), HI]
    with pytest.raises(
        CamelidError, match=r"asks to wait 3600 seconds.*longest wait is 120.*raise --longest-wait"
    ):
        RemoteLM(script.url).generate(["x"])
    assert not waits
    script.answers = [Answer("busy", 429, {"Retry-After": "3600"}), HI]
    assert RemoteLM(script.url, longest_wait=4000).generate(["x"])[0][0].text == "Hi"
    assert waits[0] >= 3600


@pytest.mark.parametrize(
    "answer",
    [
        Answer({"error": {"code": "insufficient_quota"}}, 429),
        Answer("stop", 429, {"x-should-retry": "false"}),
        Answer("bad", 400),
        Answer("gone", 404),
    ],
)
def test_it_does_not_ask_again_where_that_is_useless(
    script: Script, waits: list[float], answer: Answer
) -> None:
    script.answers = [answer, HI]
    with pytest.raises(CamelidError, match=f"HTTP {answer.status}"):
        RemoteLM(script.url).generate(["x"])
    assert not waits


@pytest.mark.parametrize("code", [429, 502])
def test_a_busy_status_inside_a_response(script: Script, waits: list[float], code: int) -> None:
    """OpenRouter answers 200 with the status of its provider in the error."""
    script.answers = [Answer({"error": {"code": code, "message": "rate-limited"}}), HI]
    assert RemoteLM(script.url).generate(["x"])[0][0].text == "Hi"
    assert len(waits) == 1


def test_a_refused_connection_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started: list[Any] = []

    def wait(*_: object) -> None:
        if not started:
            server = Script(port)
            server.answers = [HI]
            started.append(server)

    monkeypatch.setattr("camelid.lm.connection.Connection._wait", wait)
    lm = RemoteLM(f"http://127.0.0.1:{port}", model="m")
    assert lm.generate(["x"])[0][0].text == "Hi"
    started[0].shutdown()
    started[0].server_close()


def test_a_connection_that_breaks(waits: list[float]) -> None:
    """The first connection is closed without an answer, as by a server that restarts."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in (b"", b'{"choices": [{"text": "Hi", "finish_reason": "stop"}]}'):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    if answer:
                        length = str(len(answer)).encode()
                        connection.sendall(
                            b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n" + answer
                        )

        thread = threading.Thread(target=serve)
        thread.start()
        lm = RemoteLM(f"http://127.0.0.1:{server.getsockname()[1]}", model="m", parallel=1)
        assert lm.generate(["x"])[0][0].text == "Hi"
        thread.join()
    assert len(waits) == 1


def test_a_server_that_is_never_there(waits: list[float]) -> None:
    with pytest.raises(CamelidError, match="is the server running"):
        RemoteLM("http://127.0.0.1:9", model="m", retries=3).generate(["x"])
    assert len(waits) == 3


def test_an_answer_that_takes_too_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(CamelidError, match=r"no answer within 0.1 seconds.*--timeout"):
            RemoteLM(url, model="m", timeout=0.1).generate(["x"])


@pytest.mark.parametrize(
    ("cause", "repetitions"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), 0),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), 2),
        (ssl.SSLCertVerificationError("self-signed certificate"), 0),
        (ConnectionRefusedError(111, "Connection refused"), 2),
    ],
)
def test_only_what_may_pass_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, waits: list[float], cause: OSError, repetitions: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise httpx.ConnectError(str(cause)) from cause

    monkeypatch.setattr("httpx.Client.send", fail)
    with pytest.raises(CamelidError, match=str(cause).split("] ")[-1]):
        RemoteLM("https://example.org", model="m", retries=2).generate(["x"])
    assert len(waits) == repetitions


def test_an_address_that_nothing_answers(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise httpx.ConnectTimeout("timed out")

    monkeypatch.setattr("httpx.Client.send", fail)
    with pytest.raises(CamelidError, match="no connection within 30 seconds; is the address right"):
        RemoteLM("https://example.org", model="m", retries=1).generate(["x"])
    assert len(waits) == 1


def test_an_error_ends_waiting_too(script: Script) -> None:
    busy, bad = Answer("busy", 429, {"Retry-After": "100"}), Answer("bad", 400)
    script.answer = lambda path, body: bad if body["prompt"] == "bad" else busy
    before = set(threading.enumerate())
    with pytest.raises(CamelidError, match="HTTP 400"):
        RemoteLM(script.url, parallel=4).generate(["bad", "a", "b", "c"])
    for thread in set(threading.enumerate()) - before:
        if thread.ident is None:  # being started
            continue
        thread.join(10)
        assert not thread.is_alive()


def test_one_error_ends_the_other_requests(script: Script) -> None:
    script.answers = [Answer("bad", 400)]
    with pytest.raises(CamelidError, match="HTTP 400"):
        RemoteLM(script.url, parallel=2).generate(["x"] * 200)
    assert len(script.asked) < 50


@pytest.mark.parametrize(
    "settings", [{"retries": -1}, {"longest_wait": -1.0}, {"timeout": 0.0}, {"parallel": 0}]
)
def test_settings_that_mean_nothing(settings: dict[str, Any]) -> None:
    with pytest.raises(WrongCall, match=next(iter(settings))):
        RemoteLM("http://127.0.0.1:9", **settings)
