"""The LM seam: sampling's rules, the scripted LM, and the remote one against a small local server."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.engine.open_lm import connect
from camelid.lm.interface import Completion, Score
from camelid.lm.remote import RemoteLM
from camelid.lm.sampling import Sampling
from camelid.lm.scripted import ScriptedLM
from camelid.text.conversation import Conversation, Message

HELLO = Conversation((Message("user", "Hello"),))


class Server(ThreadingHTTPServer):
    """Answers like OpenAI's server; `asked` holds (path, body, key); `failures` are status codes to give
    first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, Any, str | None]] = []
        self.failures: list[int] = []
        self.models: list[dict[str, str]] = [{"id": "llama"}]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send(200, json.dumps({"data": self.server.models}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body, self.headers.get("Authorization")))
        if self.server.failures:
            self.send(self.server.failures.pop(0), "busy or wrong")
        elif body.get("stream"):
            pieces = [json.dumps({"choices": [{"delta": {"content": piece}}]}) for piece in ("Hel", "lo")]
            self.send(200, "".join(f"data: {piece}\n\n" for piece in (*pieces, "[DONE]")))
        elif body.get("echo"):
            self.send(200, json.dumps({"choices": [{"logprobs": echoed(body["prompt"])}]}))
        else:
            key = "messages" in body
            said = {"message": {"content": "Hi"}} if key else {"text": "Hi"}
            choice = {**said, "finish_reason": "length" if key else "stop"}
            self.send(200, json.dumps({"choices": [choice] * body["n"]}))

    def send(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())


def echoed(prompt: str) -> dict[str, Any]:
    """Letters are tokens: 'a' is the likeliest everywhere; and, as some servers do, one token more than was
    asked."""
    letters = prompt + "!"
    own = [None, *(-1.0 if letter == "a" else -3.0 for letter in letters[1:])]
    return {
        "text_offset": list(range(len(letters))),
        "token_logprobs": own,
        "top_logprobs": [None, *({"a": -1.0} for _ in letters[1:])],
    }


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -1.0),
        ("top_k", 0),
        ("top_p", 0.0),
        ("min_p", 2.0),
        ("stop", [""]),
        ("repetition_penalty", 0.0),
        ("presence_penalty", float("nan")),
        ("logit_bias", {-1: 1.0}),
        ("regex", ""),
        ("json_schema", "{"),
        ("json_schema", "[]"),
        ("json_schema", {"enum": {1, 2}}),
    ],
)
def test_sampling_refuses_what_means_nothing(name: str, value: object) -> None:
    with pytest.raises(WrongCall, match=name):
        Sampling(**{name: value})  # type: ignore[arg-type]


def test_one_stop_string_is_a_list_of_one() -> None:
    assert Sampling(stop="\n").stop == ("\n",)  # type: ignore[arg-type]


def test_a_schema_is_kept_as_json_and_alone() -> None:
    schema = {"type": "object", "properties": {"ü": {}, "a": {}}}
    kept = Sampling(json_schema=schema)
    assert kept.json_schema == '{"type": "object", "properties": {"ü": {}, "a": {}}}'
    assert hash(kept) == hash(Sampling(json_schema=json.dumps(schema)))
    assert kept == Sampling(json_schema=json.dumps(schema, indent=3))
    with pytest.raises(WrongCall, match="there is a regex too"):
        Sampling(regex="a", json_schema=schema)


def test_a_script_is_held_to_what_was_asked() -> None:
    lm = ScriptedLM(["yes", "maybe", '{"a": 1}', "{}"])
    schema = {"type": "object", "required": ["a"]}
    assert lm.generate(["q"], regex="yes|no")[0][0].text == "yes"
    with pytest.raises(WrongCall, match=r"'maybe' is not what regex 'yes\|no' allows"):
        lm.generate(["q"], regex="yes|no")
    assert lm.generate(["q"], json_schema=schema)[0][0].text == '{"a": 1}'
    with pytest.raises(WrongCall, match=r"'\{\}' is not what json_schema allows"):
        lm.generate(["q"], json_schema=schema)


def test_scripted_lm() -> None:
    lm = ScriptedLM(["yes. no", "b"])
    assert lm.generate(["q"], stop=("no",)) == [[Completion("yes. ", (), (), "stop")]]
    assert "".join(lm.stream(HELLO)) == "b"
    assert lm.prompts == ["q", HELLO]
    assert lm.score(["q"], ["one two"]) == [Score(-2.0, 2, False)]
    with pytest.raises(WrongCall, match="asked for more"):
        lm.generate(["q"])


def test_wrong_calls_say_what_is_right() -> None:
    lm = ScriptedLM(lambda _: "x")
    with pytest.raises(WrongCall, match=r"\[prompt\]"):
        lm.generate("a prompt")
    with pytest.raises(WrongCall, match="max_tokens; the settings are max_new_tokens"):
        lm.generate(["q"], max_tokens=3)


def test_remote_generates(server: Server) -> None:
    lm = connect(server.url + "/v1/", api_key="secret")
    assert isinstance(lm, RemoteLM)
    assert lm.generate(["Hello"], samples=2, seed=3) == [[Completion("Hi", (), (), "stop")] * 2]
    assert lm.generate([HELLO], top_k=5) == [[Completion("Hi", (), (), "length")]]
    (path, body, key), (chat_path, chat_body, _) = server.asked
    assert (path, body["prompt"], body["seed"], key) == ("/v1/completions", "Hello", 3, "Bearer secret")
    assert (chat_path, chat_body["messages"]) == (
        "/v1/chat/completions",
        [{"role": "user", "content": "Hello"}],
    )
    assert chat_body["model"] == "llama"
    assert chat_body["top_k"] == 5
    assert "stop" not in body


def test_remote_asks_for_json_and_is_not_content_with_less(server: Server) -> None:
    lm, schema = RemoteLM(server.url), {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert lm.generate([HELLO], json_schema=schema)[0][0].finish_reason == "length"
    assert server.asked[-1][1]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }
    with pytest.raises(CamelidError, match=r"did not keep to json_schema.*'Hi'"):
        lm.generate(["Hello"], json_schema=schema)
    with pytest.raises(CamelidError, match=r"did not keep to json_schema.*'Hello'"):
        list(lm.stream(HELLO, json_schema=schema))


@pytest.mark.parametrize(
    ("name", "fields"), [("vllm", {"structured_outputs": {"regex": "H."}}), ("sglang", {"regex": "H."})]
)
def test_remote_sends_a_regex_where_it_has_a_field(server: Server, name: str, fields: dict[str, Any]) -> None:
    server.models = [{"id": "llama", "owned_by": name}]
    RemoteLM(server.url, model="llama").generate(["Hello"], regex="H.")
    assert fields.items() <= server.asked[-1][1].items()


def test_remote_refuses_a_regex_that_a_server_would_drop(server: Server) -> None:
    for owner in ({}, {"owned_by": "openai"}):
        server.models = [{"id": "llama", **owner}]
        with pytest.raises(WrongCall, match=r"no field for regex.*vllm and sglang, this server"):
            RemoteLM(server.url).generate(["Hello"], regex="H.")
    assert not server.asked


def test_remote_streams(server: Server) -> None:
    assert list(RemoteLM(server.url).stream(HELLO)) == ["Hel", "lo"]


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("<html>welcome</html>", "ended before the completion did: <html>"),
        ('{"choices": [{"text": "Hi"}]}', "ended before the completion did"),
        ('data: {"choices": [{"text": "ab"}]}\n\n', "ended before the completion did"),
        ('data: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
        ("data: <html>\n\n", "did not return JSON"),
    ],
)
def test_remote_streams_that_break_are_told(
    server: Server, monkeypatch: pytest.MonkeyPatch, answer: str, what: str
) -> None:
    monkeypatch.setattr(Handler, "do_POST", lambda self: self.send(200, answer))
    with pytest.raises(CamelidError, match=what):
        list(RemoteLM(server.url).stream(HELLO))


@pytest.mark.parametrize(
    ("answer", "what"),
    [("<html>", "did not return JSON"), ('{"error": "full"}', "full"), ('{"choices": []}', "has no choices")],
)
def test_remote_answers_that_are_none_are_told(
    server: Server, monkeypatch: pytest.MonkeyPatch, answer: str, what: str
) -> None:
    monkeypatch.setattr(Handler, "do_POST", lambda self: self.send(200, answer))
    with pytest.raises(CamelidError, match=what):
        RemoteLM(server.url).generate(["x"])


def test_remote_scores(server: Server) -> None:
    lm = RemoteLM(server.url)
    assert lm.score(["xy", "xy"], ["aaa", "ab"]) == [Score(-3.0, 3, True), Score(-4.0, 2, False)]
    with pytest.raises(WrongCall, match="score only text"):
        lm.score([HELLO], ["a"])


def test_remote_asks_a_busy_server_again(server: Server) -> None:
    server.failures = [429]
    assert RemoteLM(server.url).generate(["x"])[0][0].text == "Hi"
    server.failures = [400]
    with pytest.raises(CamelidError, match="HTTP 400: busy or wrong"):
        RemoteLM(server.url).generate(["x"])


def test_remote_says_that_nobody_answers(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(CamelidError, match="is the server running"):
        RemoteLM(model="m").generate(["x"])
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(WrongCall, match="OPENAI_BASE_URL"):
        RemoteLM()


def test_the_seam_imports_no_torch() -> None:
    code = "import sys, camelid.lm.interface; sys.exit('torch' in sys.modules or 'httpx' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
