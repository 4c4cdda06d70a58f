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
"""How a request names a regular expression, by what the server says in its models' `owned_by`.

vLLM from 0.12: docs.vllm.ai, "Structured Outputs"; SGLang: docs.sglang.io, "Structured Outputs".
"""


class RemoteLM(LM):
    """An OpenAI-compatible server, asked over HTTP, `parallel` requests at a time.

    url: with or without `/v1`, by default OPENAI_BASE_URL; api_key: by default OPENAI_API_KEY; model: by default the
    first that the server lists; timeout: seconds for one answer. A busy server (429, 5xx) is asked again, four times
    at growing distances. Completions hold no tokens and no log-probabilities. Raises `CamelidError` where the server cannot be
    reached or refuses.

    `json_schema` is sent as OpenAI's `response_format`, `regex` in the field of the servers that are known to have one.
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
        """What the server answers."""
        with ThreadPoolExecutor(self._parallel) as pool:
            return list(pool.map(lambda prompt: self._complete(prompt, sampling), prompts))

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        """Scores by `/v1/completions` with `echo` and `logprobs`; raises `WrongCall` for conversations."""
        pairs = as_pairs(prompts, continuations)
        with ThreadPoolExecutor(self._parallel) as pool:
            return list(pool.map(lambda pair: self._score(*pair), pairs))

    def stream(self, prompt: Prompt, sampling: Sampling | None = None, **changes: Any) -> Stream:
        """The text of one completion in pieces, as server-sent events bring them."""
        said, reason, other = "", None, ""
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
                        said += piece
                        yield piece
        if reason is None:
            raise CamelidError(
                f"{self.url}: the stream ends before its answer does{other and ': '}{other[:200]}"
            )
        return _checked(Completion(said, (), (), _finish_reason(reason)), sampling)

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
                f"{self.url}: OpenAI's API has no field for regex, and a server drops what it does not know; "
                f"it is sent to {' and '.join(REGEX_FIELDS)}, this server says {server}"
            )
        return REGEX_FIELDS[server](sampling.regex)

    def _score(self, prompt: Prompt, continuation: str) -> Score:
        if not isinstance(prompt, str):
            raise WrongCall("a server scores text only: give the conversation as rendered text")
        body = {
            "model": self.model,
            "prompt": prompt + continuation,
            "max_tokens": 0,
            "echo": True,
            "logprobs": 1,
        }
        said = self._choices("completions", body)[0]["logprobs"]
        rows = zip(said["text_offset"], said["token_logprobs"], said["top_logprobs"], strict=True)
        # Servers that cannot generate nothing add a token; the first token of a text has no probability.
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
            raise CamelidError(f"{self.url}: there is no answer in {json.dumps(content)[:200]}")
        choices: list[dict[str, Any]] = content["choices"]
        return choices

    def _parsed(self, text: str) -> dict[str, Any]:
        """The JSON of an answer or of a piece of one, none of which may be an error."""
        try:
            content: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise CamelidError(
                f"{self.url} speaks no JSON: {text[:200]!r}; is it an OpenAI-compatible server?"
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
    """The completion; raises `CamelidError` where JSON was asked for and a server that knows no schemas said something else."""
    if sampling.json_schema is not None and completion.finish_reason == "stop" and not sampling.stop:
        try:
            json.loads(completion.text)
        except ValueError as error:
            raise CamelidError(
                f"the server did not keep to json_schema, perhaps it knows no response_format here; "
                f"it said {completion.text[:200]!r}"
            ) from error
    return completion


def _finish_reason(told: str | None) -> FinishReason:
    """Servers know more ways to end; to us they are all stops."""
    return "length" if told == "length" else "stop"
