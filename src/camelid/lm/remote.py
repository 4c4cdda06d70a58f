"""An OpenAI-compatible server as an `LM`."""

import json
import os
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

from camelid.base.errors import CamelidError, WrongCall
from camelid.lm.adapting import ADAPTATIONS, adaptation_for, adapted
from camelid.lm.choices import (
    choices_of,
    models_of,
    piece_of_choice,
    reason_of_choice,
    text_of_choice,
    the_model,
    usage_of,
)
from camelid.lm.connection import Connection, Patience, StatusError
from camelid.lm.echo import Echo, PromptLogprobsError
from camelid.lm.interface import (
    LM,
    Completion,
    FinishReason,
    Outcomes,
    Prompt,
    Score,
    Stream,
    as_pairs,
    of_one_prompt,
)
from camelid.lm.parallel import finished
from camelid.lm.sampling import Sampling, with_changes

Value = TypeVar("Value")
Result = TypeVar("Result")

REGEX_FIELDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "vllm": lambda regex: {"structured_outputs": {"regex": regex}},
    "sglang": lambda regex: {"regex": regex},
}
"""How a request passes a regular expression, by the server's `owned_by` in its list of models.

vLLM from 0.12: docs.vllm.ai, "Structured Outputs"; SGLang: docs.sglang.io, "Structured Outputs".
"""
CONTEXTS = 256
"""Prompts whose tokens are kept."""


class RemoteLM(LM):
    """An OpenAI-compatible server, with `parallel` HTTP requests at a time.

    url: with or without `/v1`, by default OPENAI_BASE_URL. model: needed where the server has several.
    api_key: by default OPENAI_API_KEY for OPENAI_BASE_URL (or OpenAI's own address), and CAMELID_API_KEY for
    other servers; never sent over plain http, except to this machine. timeout: seconds per response. Requests
    to a busy server (429, 5xx), and refused connections, are repeated up to `retries` times: after as many
    seconds as the server asks for, up to `longest_wait`, otherwise after growing ones. Completions hold no
    tokens and no log-probabilities, only the server's counts of tokens. Raises `CamelidError` if the server
    cannot be reached or refuses.

    `json_schema` is sent as OpenAI's `response_format`, `regex` in the field of servers that are known to
    have one. `max_tokens` becomes `max_completion_tokens` for servers that ask for that.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout: float = Patience.timeout,
        parallel: int = 16,
        retries: int = Patience.retries,
        longest_wait: float = Patience.longest_wait,
    ) -> None:
        url = url or os.environ.get("OPENAI_BASE_URL")
        if not url:
            raise WrongCall("no server given: pass its URL or set OPENAI_BASE_URL")
        if parallel < 1:
            raise WrongCall(f"parallel is {parallel}; it must be at least 1")
        self._connection = Connection(url, api_key, Patience(retries, longest_wait, timeout))
        self.url = self._connection.url
        self._model, self._parallel = model, parallel
        self._adaptations: dict[str, tuple[str, ...]] = {}
        """For each path what this server has asked to change in requests."""
        self._contexts: dict[str, Echo] = {}

    @cached_property
    def model(self) -> str:
        """The model's name on the server."""
        return self._model or str(self._only_model["id"])

    @property
    def identity(self) -> str:
        """The address, the model's name there, and what stands behind the name if the server says so."""
        try:
            listed = {str(model["id"]): model for model in self._models}
        except CamelidError:
            if self._model is None:
                raise
            listed = {}  # a server without a list, whose model was named
        root = listed.get(self.model, {}).get("root")
        return f"{self.url} {self.model}" + (f" ({root})" if root and root != self.model else "")

    @cached_property
    def _models(self) -> list[dict[str, Any]]:
        return models_of(self.url, self._connection.ask("GET", "models"))

    @cached_property
    def _only_model(self) -> Mapping[str, Any]:
        try:
            return the_model(self.url, self._models)
        except StatusError as error:
            if error.status not in (404, 405, 501):
                raise
            raise CamelidError(f"{error}; the server lists no models: pass --model-name") from error

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """The server's completions of each prompt."""
        return self._each(lambda prompt: self._complete(prompt, sampling), prompts)

    def each(self, prompts: Sequence[Prompt], sampling: Sampling) -> Outcomes:
        """Each prompt's completions as the server finishes them."""
        with closing(self._finished(lambda prompt: self._complete(prompt, sampling), prompts)) as done:
            for index, future in done:
                error = future.exception()
                yield index, future.result() if error is None else of_one_prompt(error)

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        """Scores through `/v1/completions` with `echo` and `logprobs`.

        Raises `WrongCall` for conversations, and `CamelidError` if the server returns no probabilities of a
        prompt or it cannot be told which of its tokens are the continuation's.
        """
        return self._each(lambda pair: self._score(*pair), as_pairs(prompts, continuations))

    def stream(self, prompt: Prompt, sampling: Sampling | None = None, **changes: Any) -> Stream:
        """Yields the text of one completion in pieces, from server-sent events."""
        text = ""
        reason: FinishReason | None = None
        sampling = with_changes(sampling, {**changes, "samples": 1})
        path, body = self._request(prompt, sampling)
        for content in self._adapting(path, {**body, "stream": True}, self._connection.stream):
            if content is None:
                reason = reason or "stop"
                break
            choices = content.get("choices") if isinstance(content, dict) else None
            for choice in choices if isinstance(choices, list) else ():
                if not isinstance(choice, dict) or choice.get("index") not in (None, 0):
                    continue
                piece = piece_of_choice(self.url, choice)
                # A whole message is the whole answer of a server that does not stream.
                whole: FinishReason | None = "stop" if isinstance(choice.get("message"), dict) else None
                reason = reason_of_choice(self.url, choice) or whole or reason
                text += piece
                if piece:
                    yield piece
        if reason is None:
            raise CamelidError(f"{self.url}: the stream ended before the completion did")
        return _checked(Completion(text, (), (), reason), sampling)

    def _adapting(
        self, path: str, body: dict[str, Any], ask: Callable[[str, dict[str, Any]], Iterator[Any]]
    ) -> Iterator[Any]:
        """What `ask` yields for a request, asked again with fields as this server takes them."""
        known = self._adaptations.get(path, ())
        while True:
            sent = adapted(body, known)
            try:
                for content in ask(path, sent):
                    self._adaptations[path] = known
                    yield content
                return
            except StatusError as error:
                name = adaptation_for(sent, error)
                if name is None or len(known) > len(ADAPTATIONS):
                    raise
                known = (*known, name)

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        """The response to a request."""
        [content] = self._adapting(
            path, body, lambda path, body: iter([self._connection.ask("POST", path, body)])
        )
        return content

    def _each(self, function: Callable[[Value], Result], values: Sequence[Value]) -> list[Result]:
        """The function of each value, `parallel` at a time, until one raises an error."""
        with closing(self._finished(function, values)) as done:
            results = {index: future.result() for index, future in done}
        return [results[index] for index in range(len(values))]

    def _finished(
        self, function: Callable[[Value], Result], values: Sequence[Value]
    ) -> Generator[tuple[int, Future[Result]], None, None]:
        def of(value: Value, stop: threading.Event) -> Result:
            self._connection.stop_waiting(stop)
            return function(value)

        return finished(of, values, self._parallel)

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
        """The samples of one prompt; a server that gives fewer than asked is asked again for the others."""
        found: list[Completion] = []
        while len(found) < sampling.samples:
            # Another seed, since a server that ignores `n` would give the same sample again.
            rest = replace(sampling, samples=sampling.samples - len(found), seed=sampling.seed + len(found))
            content = self._ask(*self._request(prompt, rest))
            choices = choices_of(self.url, content)
            found += [self._completion(content, choice, choices, rest) for choice in choices]
        return found[: sampling.samples]

    def _completion(
        self,
        content: Mapping[str, Any],
        choice: Mapping[str, Any],
        choices: Sequence[Any],
        sampling: Sampling,
    ) -> Completion:
        read, written = usage_of(content)
        written = written if len(choices) == 1 else None  # it counts all of them together
        reason = reason_of_choice(self.url, choice)
        if reason is None:
            # Not said: cut if the server counts as many tokens as were allowed.
            reason = "length" if written == sampling.max_new_tokens else "stop"
        text = text_of_choice(self.url, choice)
        return _checked(Completion(text, (), (), reason, counts=(read, written)), sampling)

    def _constraint(self, sampling: Sampling) -> dict[str, Any]:
        if sampling.json_schema is not None:
            schema = {"name": "answer", "schema": json.loads(str(sampling.json_schema)), "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        if sampling.regex is None:
            return {}
        listed = {str(model["id"]): model for model in self._models}
        server = str(listed.get(self.model, next(iter(listed.values()), {})).get("owned_by"))
        if server not in REGEX_FIELDS:
            raise WrongCall(
                f"{self.url}: OpenAI's API has no field for regex, and servers ignore unknown fields; "
                f"regex is supported for {' and '.join(REGEX_FIELDS)}, this server is {server}"
            )
        return REGEX_FIELDS[server](sampling.regex)

    def _score(self, prompt: Prompt, continuation: str) -> Score:
        if not isinstance(prompt, str):
            raise WrongCall("a server can score only text: render the conversation with its chat template")
        if not continuation:
            raise WrongCall("the continuation is empty, so it has no tokens to score")
        try:
            echo = self._echo(prompt + continuation)
            score = echo.score(prompt, continuation)
            if score is None and prompt:
                score = echo.score(prompt, continuation, self._context(prompt))
        except PromptLogprobsError as error:
            raise CamelidError(
                f"{self.url}: this server gives no prompt probabilities, which scores are made of: {error}. "
                "Use a server that has 'echo' with 'logprobs' in /v1/completions, such as vLLM, "
                "or a model folder"
            ) from error
        if score is None:
            raise CamelidError(
                f"{self.url}: it cannot be told which tokens of the response are those of the continuation "
                f"{continuation[:60]!r}, so none would be scored; use a model folder"
            )
        return score

    def _context(self, prompt: str) -> Echo:
        """The tokens of a prompt by itself, asked for once for all its continuations."""
        if prompt not in self._contexts:
            if len(self._contexts) >= CONTEXTS:
                self._contexts.clear()
            self._contexts[prompt] = self._echo(prompt)
        return self._contexts[prompt]

    def _echo(self, text: str) -> Echo:
        body = {"model": self.model, "prompt": text, "max_tokens": 0, "echo": True, "logprobs": 1}
        try:
            content = self._ask("completions", body)
        except StatusError as error:
            if error.status not in (400, 404, 405, 422, 501):
                raise
            raise PromptLogprobsError(str(error)) from error
        return Echo.of(content, choices_of(self.url, content)[0])


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
