"""Black-box checks of any OpenAI-compatible server: faults that answer 200 and are wrong.

Each gate asks over HTTP and compares answers with each other or with what was asked; none needs to know the
model. What a server refuses by name with 4xx passes: the fault is to accept and not to do.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import httpx

from camelid.base.errors import CamelidError
from camelid.base.json import NotJSONError, parse
from camelid.workflows.model_gates import Gate

Body = dict[str, Any]
QUESTION = "Write one sentence about a river."
OTHERS = ("Name a colour.", "Count to five.", "What is a lake?", "Tell a short story about a dog and a bird.")
TOKENS = 24
LONG_WORDS = 300_000
"""Words of a prompt that is longer than any context."""
SECONDS = 120.0


class ServerFaultError(CamelidError):
    """What a server did wrong."""


@dataclass(frozen=True)
class Asked:
    """A response: its status, and its JSON, or its text if it is not JSON."""

    status: int
    content: Any

    @property
    def refused(self) -> bool:
        return 400 <= self.status < 500

    @property
    def choice(self) -> Mapping[str, Any]:
        """The only choice of a whole answer; raises `ServerFaultError` where there is none."""
        try:
            [choice] = self.content["choices"]
        except (KeyError, TypeError, ValueError) as error:
            raise ServerFaultError(
                f"expected one choice, got {self.status} {str(self.content)[:200]}"
            ) from error
        found: Mapping[str, Any] = choice
        return found

    @property
    def text(self) -> str:
        """The text of the only choice."""
        choice = self.choice
        text = choice["message"].get("content") if "message" in choice else choice.get("text")
        return str(text or "")


class Server:
    """One model of a server, asked over HTTP."""

    def __init__(self, url: str) -> None:
        base = url.rstrip("/").removesuffix("/v1")
        # Each request has a connection of its own: a server may end a kept one just as it is used again.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(base_url=f"{base}/v1", timeout=SECONDS, limits=limits)

    @cached_property
    def model(self) -> str:
        listed = self.ask(None, "models").content
        try:
            return str(listed["data"][0]["id"])
        except (KeyError, IndexError, TypeError) as error:
            raise ServerFaultError(f"/v1/models lists no model: {str(listed)[:200]}") from error

    def ask(self, body: Any, path: str = "chat/completions") -> Asked:
        """The response to a body, or to a GET without one."""
        try:
            if body is None:
                response = self._client.get(path)
            else:
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                response = self._client.post(path, content=raw, headers={"Content-Type": "application/json"})
        except httpx.HTTPError as error:
            raise ServerFaultError(f"/v1/{path}: {type(error).__name__}: {error}") from error
        try:
            return Asked(response.status_code, parse(response.content))
        except NotJSONError:
            return Asked(response.status_code, response.text)

    def chat(self, content: str = QUESTION, **settings: Any) -> Asked:
        """A greedy answer to one message, with other settings."""
        return self.ask(self.body(content, **settings))

    def body(self, content: str = QUESTION, **settings: Any) -> Body:
        """The body of such a request."""
        message = {"role": "user", "content": content}
        own: Body = {"model": self.model, "messages": [message], "temperature": 0, "max_tokens": TOKENS}
        return own | settings

    def events(self, **settings: Any) -> list[Any]:
        """The data of a stream's events; `[DONE]` as it is."""
        found: list[Any] = []
        body = self.body(**{**settings, "stream": True})
        with self._client.stream("POST", "chat/completions", json=body) as response:
            for line in response.iter_lines():
                if line.startswith("data:"):
                    data = line.removeprefix("data:").strip()
                    found.append(data if data == "[DONE]" else parse(data))
        return found


def server_gates(url: str) -> Iterator[Gate]:
    """The checks of a server, in the order of how much they ask of it."""
    server = Server(url)
    for name, look in CHECKS.items():
        yield Gate(name, partial(look, server))


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ServerFaultError(message)


def _answers(server: Server) -> str:
    answer = server.chat()
    _require(answer.choice.get("finish_reason") in ("stop", "length"), f"finish_reason: {answer.choice}")
    return f"{server.model}: {answer.text[:60]!r}"


def _usage(server: Server) -> str:
    usage = server.chat().content.get("usage") or {}
    _require("completion_tokens" in usage, "a whole answer has no usage")
    total = usage["prompt_tokens"] + usage["completion_tokens"]
    _require(usage["total_tokens"] == total, f"usage does not add up: {usage}")
    _require(usage["completion_tokens"] <= TOKENS, f"{usage['completion_tokens']} tokens, allowed {TOKENS}")
    return f"{usage['prompt_tokens']} + {usage['completion_tokens']} tokens"


def _limits(server: Server) -> str:
    answer = server.chat(max_tokens=3)
    count = (answer.content.get("usage") or {}).get("completion_tokens", 0)
    reason = answer.choice.get("finish_reason")
    _require(count <= 3, f"max_tokens 3, and {count} tokens came")
    _require(count < 3 or reason in ("length", "stop"), f"cut after 3 tokens, with finish_reason {reason!r}")
    return f"{count} tokens, {reason}"


def _streams(server: Server) -> str:
    events, whole = server.events(), server.chat()
    _require(bool(events) and events[-1] == "[DONE]", "the stream does not end in [DONE]")
    choices = [each["choices"][0] for each in events[:-1] if each.get("choices")]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    _require(text == whole.text, f"streamed {text!r}, whole {whole.text!r}")
    _require(len(reasons) == 1, f"finish reasons of the stream: {reasons}")
    return f"{len(choices)} pieces"


def _refuses_long_prompts(server: Server) -> str:
    answer = server.chat("word " * LONG_WORDS)
    count = 0 if answer.refused else (answer.content.get("usage") or {}).get("prompt_tokens", 0)
    _require(answer.refused or count >= LONG_WORDS, f"a prompt was cut in silence: {count} tokens were read")
    return "refused" if answer.refused else f"{count} tokens were read"


def _stops(server: Server) -> str:
    text = server.chat().text
    whole = [text[at : at + 3] for at in range(len(text) // 3, len(text) - 3)]
    stop = next((each for each in whole if each.strip() == each and "\ufffd" not in each), None)
    if stop is None:
        return "the answer is too short to try"
    cut = server.chat(stop=[stop])
    expected = text[: text.find(stop)]
    _require(cut.refused or cut.text == expected, f"stop {stop!r} gave {cut.text!r}, expected {expected!r}")
    return f"before {stop!r}"


def _keeps_seeds(server: Server) -> str:
    settings: Body = {"temperature": 1.0, "seed": 11}
    first, second = server.chat(**settings), server.chat(**settings)
    _require(first.refused or first.text == second.text, "the same seed gave two answers")
    return "the same answer twice"


def _gives_samples(server: Server) -> str:
    answer = server.chat(n=3, temperature=1.0)
    count = 3 if answer.refused else len(answer.content.get("choices", ()))
    _require(count == 3, f"n is 3, and {count} choices came")
    return "refused" if answer.refused else "three choices"


def _keeps_to_schemas(server: Server) -> str:
    schema: Body = {"type": "object", "properties": {"zq": {"enum": ["k7-x"]}}, "required": ["zq"]}
    schema["additionalProperties"] = False
    form = {"type": "json_schema", "json_schema": {"name": "zq", "strict": True, "schema": schema}}
    answer = server.chat(response_format=form, max_tokens=200)
    if answer.refused:
        return "refused"
    if answer.choice.get("finish_reason") == "length" and answer.text.lstrip().startswith("{"):
        return "kept to until the answer was cut"
    try:
        value = parse(answer.text)
    except NotJSONError as error:
        raise ServerFaultError(f"a JSON schema was accepted and not kept to: {answer.text[:80]!r}") from error
    _require(value == {"zq": "k7-x"}, f"a JSON schema was accepted and not kept to: {value}")
    return "kept to"


def _refuses_bad_schemas(server: Server) -> str:
    form = {"type": "json_schema", "json_schema": {"name": "zq", "schema": {"type": "zqtype"}}}
    answer = server.chat(response_format=form)
    _require(answer.refused, f"a schema of type 'zqtype' was accepted: {answer.status}")
    return "refused"


def _does_not_depend_on_the_batch(server: Server) -> str:
    alone = server.chat().text
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(server.chat, OTHERS[index % len(OTHERS)]) for index in range(6)]
        among = pool.submit(server.chat).result().text
        for each in others:
            each.result()
    _require(among == alone, f"alone {alone!r}, among others {among!r}")
    return "alone and among 6 others"


def _does_not_depend_on_the_cache(server: Server) -> str:
    first = server.chat(f"{QUESTION} {OTHERS[3]}").text
    server.chat(f"{QUESTION} {OTHERS[0]}")
    second = server.chat(f"{QUESTION} {OTHERS[3]}").text
    _require(first == second, f"first {first!r}, from the cache {second!r}")
    return "first and again"


def _refuses(change: Body, server: Server) -> str:
    answer = server.chat(**change)
    _require(answer.refused, f"{change} was answered with {answer.status}")
    _check_error(answer)
    return f"{answer.status}"


def _refuses_no_json(server: Server) -> str:
    answer = server.ask(b"{")
    _require(answer.refused, f"a body that is not JSON was answered with {answer.status}")
    _check_error(answer)
    return f"{answer.status}"


def _check_error(answer: Asked) -> None:
    error = answer.content.get("error") if isinstance(answer.content, dict) else None
    shaped = isinstance(error, dict) and isinstance(error.get("message"), str)
    _require(shaped, f'expected {{"error": {{"message": ...}}}}, got {str(answer.content)[:120]}')


def _calls_tools(server: Server) -> str:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    function = {"name": "get_weather", "description": "Weather of a city.", "parameters": parameters}
    tools = [{"type": "function", "function": function}]
    answer = server.chat("What is the weather in Paris?", tools=tools, max_tokens=100)
    if answer.refused:
        return "refused"
    message = answer.choice["message"]
    calls = message.get("tool_calls") or []
    for call in calls:
        try:
            parse(call["function"]["arguments"])
        except (NotJSONError, KeyError, TypeError) as error:
            raise ServerFaultError(f"the arguments of a call are not JSON: {call}") from error
    if calls:
        _require(
            answer.choice.get("finish_reason") == "tool_calls", f"finish_reason beside calls: {answer.choice}"
        )
    marks = [mark for mark in ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>") if mark in answer.text]
    _require(not marks or bool(calls), f"a call was left in the text: {answer.text[:120]!r}")
    return f"{len(calls)} calls"


def _scores_prompts(server: Server) -> str:
    text = "The sky is blue and the grass is green."
    body = {
        "model": server.model,
        "prompt": text,
        "max_tokens": 1,
        "echo": True,
        "logprobs": 1,
        "temperature": 0,
    }
    answer = server.ask(body, "completions")
    if answer.refused:
        return "refused"
    _require(answer.text.startswith(text), f"echo gave {answer.text[:60]!r}")
    report = answer.choice.get("logprobs") or {}
    values = report.get("token_logprobs") or []
    _require(len(values) > 3, "echo with logprobs was accepted, and has no log-probabilities of the prompt")
    _require(all(value is not None and value <= 0 for value in values[1:]), f"log-probabilities: {values}")
    return f"{len(values)} tokens"


CHECKS: dict[str, Callable[[Server], str]] = {
    "answers": _answers,
    "usage": _usage,
    "token limit": _limits,
    "stream equals whole": _streams,
    "stop strings": _stops,
    "seed": _keeps_seeds,
    "samples": _gives_samples,
    "batch": _does_not_depend_on_the_batch,
    "cache": _does_not_depend_on_the_cache,
    "schema": _keeps_to_schemas,
    "bad schema": _refuses_bad_schemas,
    "tools": _calls_tools,
    "prompt scores": _scores_prompts,
    "long prompt": _refuses_long_prompts,
    "no JSON": _refuses_no_json,
    "unknown field": partial(_refuses, {"zq_field": 1}),
    "unknown model": partial(_refuses, {"model": "zq-model"}),
    "negative limit": partial(_refuses, {"max_tokens": -1}),
    "wrong type": partial(_refuses, {"temperature": "hot"}),
    "empty messages": partial(_refuses, {"messages": []}),
}
