"""The one seam to anything that speaks: our engine, an OpenAI-compatible server, or a script in a test.

    lm = connect("runs/first/model")
    [[answer]] = lm.generate(["Once upon a time"], max_new_tokens=64)
    scores = lm.score(["2 + 2 ="], [" 4"])

A prompt is a string, which the model continues, or a `Conversation`, whose next turn it says.
"""

import dataclasses
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from camelid.errors import CamelidError, WrongCall
from camelid.text.conversation import Conversation

if TYPE_CHECKING:
    import httpx

Prompt = str | Conversation
FinishReason = Literal["stop", "length"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Sampling:
    """How to continue a prompt; raises `WrongCall` on values that mean nothing.

    The filters apply in this order: temperature, top-k, top-p, min-p.
    """

    max_new_tokens: int = 256
    """Tokens after which a completion is cut (its finish reason is then `length`)."""
    temperature: float = 0.0
    """Logits are divided by it; 0 takes the most probable token."""
    top_k: int | None = None
    """Keep the k most probable tokens."""
    top_p: float | None = None
    """Keep the smallest set of most probable tokens whose probabilities reach p (arXiv:1904.09751, section 3.1)."""
    min_p: float | None = None
    """Keep tokens with at least this share of the highest probability (arXiv:2407.01082, section 3)."""
    seed: int = 0
    """Draws depend on this, the prompt and the sample's number only, never on what else is in the batch."""
    stop: tuple[str, ...] = ()
    """Strings that end the completion and are not part of it."""
    samples: int = 1
    """Completions for each prompt."""

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        object.__setattr__(self, "stop", tuple(self.stop))
        allowed = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < float("inf"), "0 (greedy) or a positive number"),
            "top_k": (self.top_k is None or self.top_k >= 1, "at least 1, or none"),
            "top_p": (self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1, or none"),
            "min_p": (self.min_p is None or 0 <= self.min_p <= 1, "from 0 to 1, or none"),
            "stop": (all(self.stop), "strings that are not empty"),
            "samples": (self.samples >= 1, "at least 1"),
        }
        for name, (holds, what) in allowed.items():
            if not holds:
                raise WrongCall(f"{name} is {getattr(self, name)!r}; it must be {what}")


@dataclass(frozen=True)
class Completion:
    """What the model said."""

    text: str
    """Without the stop string or stop token that ended it."""
    tokens: tuple[int, ...]
    """Every token generated, the ending one included; empty where a server does not tell."""
    logprobs: tuple[float, ...]
    """Natural log-probability of each token under the model itself: temperature 1, no filter."""
    finish_reason: FinishReason


@dataclass(frozen=True)
class Score:
    """How probable a continuation is after its prompt."""

    logprob: float
    """Natural log-probability of the whole continuation, summed over its tokens."""
    tokens: int
    is_greedy: bool
    """Whether greedy decoding would say exactly this."""


class LM(ABC):
    """Anything that completes prompts and says how probable a continuation is."""

    @abstractmethod
    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.samples` completions for each prompt, in order."""

    @abstractmethod
    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        """The score of each continuation after the prompt of the same index."""

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling | None = None, **changes: Any
    ) -> list[list[Completion]]:
        """`complete` with the sampling given, or the default one, after `changes` to its fields.

        Raises `WrongCall` on an unknown field, and where `prompts` is one string instead of a list.
        """
        return self.complete(as_list(prompts), with_changes(sampling, changes))

    def stream(self, prompt: Prompt, sampling: Sampling | None = None, **changes: Any) -> Iterator[str]:
        """The text of one completion in pieces as they come; here, in one piece at the end."""
        yield self.generate([prompt], sampling, **{**changes, "samples": 1})[0][0].text


class ScriptedLM(LM):
    """An LM for tests: a function, or a list of answers given in turn, says every completion.

    `score` counts a continuation's words as tokens, each of log-probability -1, unless `logprob` says otherwise.
    `prompts` holds every prompt asked so far. Raises `WrongCall` when the list of answers runs out.
    """

    def __init__(
        self,
        answers: Sequence[str] | Callable[[Prompt], str],
        logprob: Callable[[Prompt, str], float] | None = None,
    ) -> None:
        self.prompts: list[Prompt] = []
        self._answer = answers if callable(answers) else _in_turn(answers)
        self._logprob = logprob or (lambda _, continuation: -float(len(continuation.split())))

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """The script's answers, cut at the stop strings."""
        return [[self._complete(prompt, sampling) for _ in range(sampling.samples)] for prompt in prompts]

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        """What the script says of each pair."""
        pairs = zip(as_list(prompts), as_list(continuations), strict=True)
        return [Score(self._logprob(p, c), len(c.split()), is_greedy=False) for p, c in pairs]

    def _complete(self, prompt: Prompt, sampling: Sampling) -> Completion:
        self.prompts.append(prompt)
        text = self._answer(prompt)
        ends = [end for stop in sampling.stop if (end := text.find(stop)) >= 0]
        return Completion(text[: min(ends, default=len(text))], (), (), "stop")


class RemoteLM(LM):
    """An OpenAI-compatible server, asked over HTTP, `parallel` requests at a time.

    url: with or without `/v1`, by default OPENAI_BASE_URL; api_key: by default OPENAI_API_KEY; model: by default the
    first that the server lists; timeout: seconds for one answer. A busy server (429, 5xx) is asked again, four times
    at growing distances. Completions hold no tokens and no logprobs. Raises `CamelidError` where the server cannot be
    reached or refuses.
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
        return self._model or str(self._ask("GET", "models")["data"][0]["id"])

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """What the server answers."""
        with ThreadPoolExecutor(self._parallel) as pool:
            return list(pool.map(lambda prompt: self._complete(prompt, sampling), prompts))

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        """Scores by `/v1/completions` with `echo` and `logprobs`; raises `WrongCall` for conversations."""
        pairs = list(zip(as_list(prompts), as_list(continuations), strict=True))
        with ThreadPoolExecutor(self._parallel) as pool:
            return list(pool.map(lambda pair: self._score(*pair), pairs))

    def stream(self, prompt: Prompt, sampling: Sampling | None = None, **changes: Any) -> Iterator[str]:
        """The text of one completion in pieces, as server-sent events bring them."""
        path, body = self._request(prompt, with_changes(sampling, {**changes, "samples": 1}))
        with (
            self._connection() as client,
            client.stream("POST", path, json={**body, "stream": True}) as answer,
        ):
            if answer.is_error:
                answer.read()
            self._check(answer)
            for line in answer.iter_lines():
                if line.startswith("data:") and (data := line[5:].strip()) != "[DONE]":
                    for choice in json.loads(data)["choices"]:
                        yield choice.get("text") or choice.get("delta", {}).get("content") or ""

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
        }
        if isinstance(prompt, str):
            path, body["prompt"] = "completions", prompt
        else:
            path, body["messages"] = "chat/completions", prompt.as_dicts()
            body["tools"] = prompt.tools and [dict(tool) for tool in prompt.tools]
        return path, {key: value for key, value in body.items() if value is not None}

    def _complete(self, prompt: Prompt, sampling: Sampling) -> list[Completion]:
        choices = self._ask("POST", *self._request(prompt, sampling))["choices"]
        texts = [
            choice["text"] if "text" in choice else choice["message"]["content"] or "" for choice in choices
        ]
        reasons: list[FinishReason] = [
            "length" if choice["finish_reason"] == "length" else "stop" for choice in choices
        ]
        return [Completion(text, (), (), reason) for text, reason in zip(texts, reasons, strict=True)]

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
        said = self._ask("POST", "completions", body)["choices"][0]["logprobs"]
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
            content: dict[str, Any] = answer.json()
            return content

    @contextmanager
    def _connection(self) -> Iterator["httpx.Client"]:
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            with httpx.Client(base_url=self.url, headers=headers, timeout=self._timeout) as client:
                yield client
        except httpx.HTTPError as error:
            raise CamelidError(
                f"{self.url}: {str(error) or type(error).__name__}; is the server running?"
            ) from error

    def _check(self, answer: "httpx.Response") -> None:
        if answer.is_error:
            raise CamelidError(f"{answer.url}: HTTP {answer.status_code}: {answer.text[:500]}")


def connect(path_or_url: str | Path, **settings: Any) -> LM:
    """The LM at an http(s) URL (an OpenAI-compatible server), or in a checkpoint folder or under a hub name.

    settings: those of `RemoteLM` (`model`, `api_key`, ...) for a URL, else those of `Engine.load` (`dtype`, ...).
    """
    if str(path_or_url).startswith(("http://", "https://")):
        return RemoteLM(str(path_or_url), **settings)
    from camelid.infer.engine import Engine

    return Engine.load(path_or_url, **settings)


def as_list(values: Sequence[Value]) -> list[Value]:
    """The values as a list; raises `WrongCall` on a lone string or conversation, which would be read letter by letter."""
    if isinstance(values, str | Conversation):
        raise WrongCall("one prompt was given where a list of prompts is needed: write [prompt]")
    return list(values)


def with_changes(sampling: Sampling | None, changes: dict[str, Any]) -> Sampling:
    """The sampling with some fields replaced; raises `WrongCall` on a field that does not exist."""
    names = [field.name for field in dataclasses.fields(Sampling)]
    if unknown := sorted(changes.keys() - set(names)):
        raise WrongCall(f"no such sampling setting: {', '.join(unknown)}; there are {', '.join(names)}")
    return dataclasses.replace(sampling or Sampling(), **changes)


def _in_turn(answers: Sequence[str]) -> Callable[[Prompt], str]:
    rest = iter(answers)

    def answer(_: Prompt) -> str:
        try:
            return next(rest)
        except StopIteration:
            raise WrongCall(f"the script holds {len(answers)} answers and was asked for more") from None

    return answer
