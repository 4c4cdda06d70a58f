"""An OpenAI-compatible server as an `LM`."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import httpx

from camelid.base.errors import CamelidError, WrongCall
from camelid.lm.interface import LM, Completion, FinishReason, Prompt, Score, Stream, as_pairs
from camelid.lm.sampling import Sampling, with_changes

REGEX_FIELDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "vllm": lambda regex: {"structured_outputs": {"regex": regex}},
    "sglang": lambda regex: {"regex": regex},
}
"""How a request passes a regular expression, by the server's `owned_by` in its list of models.

vLLM from 0.12: docs.vllm.ai, "Structured Outputs"; SGLang: docs.sglang.io, "Structured Outputs".
"""


class RemoteLM(LM):
    """An OpenAI-compatible server, with `parallel` HTTP requests at a time.

    url: with or without `/v1`, by default OPENAI_BASE_URL; api_key: by default OPENAI_API_KEY; model: by
    default the first that the server lists; timeout: seconds per request. Requests to a busy server (429,
    5xx) are repeated up to four times at growing intervals. Completions hold no tokens and no
    log-probabilities. Raises `CamelidError` if the server cannot be reached or refuses.

    `json_schema` is sent as OpenAI's `response_format`, `regex` in the field of servers that are known to
    have one.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout: float = 600.0,
        parallel: int = 16,
    ) -> None:
        url = url or os.environ.get("OPENAI_BASE_URL")
        if not url:
            raise WrongCall("no server given: pass its URL or set OPENAI_BASE_URL")
        self.url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._key = api_key or os.environ.get("OPENAI_API_KEY")
        self._model, self._timeout, self._parallel = model, timeout, parallel

    @cached_property
    def model(self) -> str:
        """The model's name on the server."""
        return self._model or str(self._first_model["id"])

    @cached_property
    def _first_model(self) -> Mapping[str, Any]:
        first: Mapping[str, Any] = self._ask("GET", "models")["data"][0]
        return first

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """The server's completions of each prompt."""
        with ThreadPoolExecutor(self._parallel) as pool:
            return list(pool.map(lambda prompt: self._complete(prompt, sampling), prompts))

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        """Scores through `/v1/completions` with `echo` and `logprobs`; raises `WrongCall` for
        conversations."""
        pairs = as_pairs(prompts, continuations)
        with ThreadPoolExecutor(self._parallel) as pool:
            return list(pool.map(lambda pair: self._score(*pair), pairs))

    def stream(self, prompt: Prompt, sampling: Sampling | None = None, **changes: Any) -> Stream:
        """Yields the text of one completion in pieces, from server-sent events."""
        text, reason, other = "", None, ""
        sampling = with_changes(sampling, {**changes, "samples": 1})
        path, body = self._request(prompt, sampling)
        with (
            self._connection() as client,
            client.stream("POST", path, json={**body, "stream": True}) as answer,
        ):
            if answer.is_error:
                answer.read()
            self._check(answer)
            for line in answer.iter_lines():
                if not line.startswith("data:"):
                    other += line
                elif (data := line[5:].strip()) == "[DONE]":
                    reason = reason or "stop"
                else:
                    for choice in self._parsed(data).get("choices", ()):
                        piece = choice.get("text") or choice.get("delta", {}).get("content") or ""
                        reason = choice.get("finish_reason") or reason
                        text += piece
                        yield piece
        if reason is None:
            raise CamelidError(
                f"{self.url}: the stream ended before the completion did{other and ': '}{other[:200]}"
            )
        return _checked(Completion(text, (), (), _finish_reason(reason)), sampling)

    def _request(self, prompt: Prompt, sampling: Sampling) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "seed": sampling.seed,
            "stop": list(sampling.stop) or None,
            "n": sampling.samples,
            "presence_penalty": sampling.presence_penalty or None,
            "frequency_penalty": sampling.frequency_penalty or None,
            "repetition_penalty": None if sampling.repetition_penalty == 1 else sampling.repetition_penalty,
            "logit_bias": {str(token): bias for token, bias in dict(sampling.logit_bias).items()} or None,
            **self._constraint(sampling),
        }
        if isinstance(prompt, str):
            path, body["prompt"] = "completions", prompt
        else:
            path, body["messages"] = "chat/completions", prompt.as_dicts()
            body["tools"] = prompt.tools and [dict(tool) for tool in prompt.tools]
        return path, {key: value for key, value in body.items() if value is not None}

    def _complete(self, prompt: Prompt, sampling: Sampling) -> list[Completion]:
        choices = self._choices(*self._request(prompt, sampling))
        texts = [
            choice["text"] if "text" in choice else choice["message"]["content"] or "" for choice in choices
        ]
        reasons = [_finish_reason(choice["finish_reason"]) for choice in choices]
        completions = [Completion(text, (), (), reason) for text, reason in zip(texts, reasons, strict=True)]
        return [_checked(completion, sampling) for completion in completions]

    def _constraint(self, sampling: Sampling) -> dict[str, Any]:
        if sampling.json_schema is not None:
            schema = {"name": "answer", "schema": json.loads(str(sampling.json_schema)), "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        if sampling.regex is None:
            return {}
        server = str(self._first_model.get("owned_by"))
        if server not in REGEX_FIELDS:
            raise WrongCall(
                f"{self.url}: OpenAI's API has no field for regex, and servers ignore unknown fields; "
                f"regex is supported for {' and '.join(REGEX_FIELDS)}, this server is {server}"
            )
        return REGEX_FIELDS[server](sampling.regex)

    def _score(self, prompt: Prompt, continuation: str) -> Score:
        if not isinstance(prompt, str):
            raise WrongCall("a server can score only text: render the conversation with its chat template")
        body = {
            "model": self.model,
            "prompt": prompt + continuation,
            "max_tokens": 0,
            "echo": True,
            "logprobs": 1,
        }
        found = self._choices("completions", body)[0]["logprobs"]
        rows = zip(found["text_offset"], found["token_logprobs"], found["top_logprobs"], strict=True)
        # Servers that do not accept max_tokens 0 add a token; a text's first token has no probability.
        end = len(prompt) + len(continuation)
        scored = [(own, top) for offset, own, top in rows if len(prompt) <= offset < end and own is not None]
        greedy = all(own >= max(top.values()) for own, top in scored)
        return Score(sum(own for own, _ in scored), len(scored), greedy)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        with self._connection() as client:
            for pause in (0.5, 1.0, 2.0, 4.0, None):
                answer = client.request(method, path, json=body)
                busy = answer.status_code == 429 or answer.status_code >= 500
                if not busy or pause is None:
                    break
                time.sleep(pause)
            self._check(answer)
            return self._parsed(answer.text)

    def _choices(self, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        content = self._ask("POST", path, body)
        if not content.get("choices"):
            raise CamelidError(f"{self.url}: the response has no choices: {json.dumps(content)[:200]}")
        choices: list[dict[str, Any]] = content["choices"]
        return choices

    def _parsed(self, text: str) -> dict[str, Any]:
        """The JSON of a response or of a streamed piece; raises `CamelidError` if it is an error."""
        try:
            content: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise CamelidError(
                f"{self.url} did not return JSON: {text[:200]!r}; is it an OpenAI-compatible server?"
            ) from error
        if "error" in content:
            raise CamelidError(f"{self.url}: {json.dumps(content['error'])[:500]}")
        return content

    @contextmanager
    def _connection(self) -> Iterator[httpx.Client]:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            with httpx.Client(base_url=self.url, headers=headers, timeout=self._timeout) as client:
                yield client
        except httpx.HTTPError as error:
            raise CamelidError(
                f"{self.url}: {str(error) or type(error).__name__}; is the server running?"
            ) from error

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_error:
            raise CamelidError(f"{answer.url}: HTTP {answer.status_code}: {answer.text[:500]}")


def _checked(completion: Completion, sampling: Sampling) -> Completion:
    """The completion; raises `CamelidError` if a schema was given and the server, ignoring it, returned no
    JSON."""
    if sampling.json_schema is not None and completion.finish_reason == "stop" and not sampling.stop:
        try:
            json.loads(completion.text)
        except ValueError as error:
            raise CamelidError(
                "the server did not keep to json_schema, perhaps because it does not support response_format "
                f"here; it returned {completion.text[:200]!r}"
            ) from error
    return completion


def _finish_reason(reason: str | None) -> FinishReason:
    """Servers have more reasons; all but `length` count as stops."""
    return "length" if reason == "length" else "stop"
