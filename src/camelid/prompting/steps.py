"""Questions that run side by side: each says what it needs of a model, and what all wait for is asked at
once.

A way of asking is a generator. It yields the requests that it can make now, is sent their replies, and
returns its result at the end:

    def ask(question):
        steps = yield from generated(f"Q: {question}\\nA:", STEPS)
        answer = yield from generated(f"Q: {question}\\nA:{steps.text}\\nSo the answer is", ANSWER)
        return steps.text, answer.text

    answers = run(lm, [ask(question) for question in questions])

Here the model gets two batches, however many questions there are. Samples of one question are several such
generators (`side_by_side`), and a prompt that several of them ask is computed once.
"""

import json
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from camelid.lm.interface import LM, Completion, Prompt, Score
from camelid.lm.sampling import Sampling

T = TypeVar("T")


@dataclass(frozen=True)
class Generate:
    """A request for one completion of a prompt."""

    prompt: Prompt
    sampling: Sampling
    sample: int = 0
    """Which of the prompt's samples: independent samples of one prompt have different numbers."""


@dataclass(frozen=True)
class ScoreOf:
    """A request for the score of a continuation."""

    prompt: Prompt
    continuation: str


Request = Generate | ScoreOf
Key = tuple[bool, str, Sampling | str]
Steps = Generator[Sequence[Request], Sequence[Any], T]
"""Yields requests, is sent a `Completion` or `Score` for each, and returns its result."""


def generated(prompt: Prompt, sampling: Sampling) -> Steps[Completion]:
    """The completion of a prompt."""
    [completion] = yield [Generate(prompt, sampling)]
    return cast(Completion, completion)


def scored(prompts: Sequence[Prompt], continuations: Sequence[str]) -> Steps[list[Score]]:
    """The score of each continuation after the prompt of the same index."""
    scores = yield [ScoreOf(*pair) for pair in zip(prompts, continuations, strict=True)]
    return list(scores)


def side_by_side(several: Iterable[Steps[T]], *, samples: bool = False) -> Steps[list[T]]:
    """Runs several at once and returns their results in order.

    samples: they are samples of one question, so that those that ask the same get different completions.
    """
    running = list(several)
    results: dict[int, T] = {}
    waiting: dict[int, Sequence[Request]] = {}

    def advance(index: int, replies: Sequence[Any] | None) -> None:
        try:
            waiting[index] = next(running[index]) if replies is None else running[index].send(replies)
        except StopIteration as end:
            results[index] = end.value

    for index in range(len(running)):
        advance(index, None)
    while waiting:
        asked, waiting = waiting, {}
        requests = [request for each in asked.values() for request in each]
        replies = iter((yield _numbered(requests) if samples else requests))
        for index, each in asked.items():
            advance(index, [next(replies) for _ in each])
    return [results[index] for index in range(len(running))]


def run(lm: LM, several: Iterable[Steps[T]]) -> list[T]:
    """Runs several at once on a model; a batch of requests is answered before the next one is made."""
    steps = side_by_side(several)
    try:
        requests = next(steps)
        while True:
            requests = steps.send(_fulfilled(lm, requests))
    except StopIteration as end:
        return cast(list[T], end.value)


def _numbered(requests: Sequence[Request]) -> list[Request]:
    """The requests with equal ones made different samples, numbered in order."""
    asked: Counter[Key] = Counter()
    numbered: list[Request] = []
    for request in requests:
        if isinstance(request, Generate):
            key = _key(request)
            request = replace(request, sample=asked[key])
            asked[key] += 1
        numbered.append(request)
    return numbered


def _fulfilled(lm: LM, requests: Sequence[Request]) -> list[Completion | Score]:
    """The reply to each request; equal requests are made once."""
    samples: dict[Key, tuple[Prompt, Sampling]] = {}
    pairs: dict[Key, ScoreOf] = {}
    for request in requests:
        key = _key(request)
        if isinstance(request, ScoreOf):
            pairs[key] = request
        else:
            known = samples[key][1].samples if key in samples else 0
            count = max(known, request.sample + 1)
            samples[key] = (request.prompt, replace(request.sampling, samples=count))
    replies: dict[Key, Sequence[Completion] | Score] = {}
    for sampling in dict.fromkeys(sampling for _, sampling in samples.values()):
        keys = [key for key, (_, its) in samples.items() if its == sampling]
        replies |= zip(keys, lm.generate([samples[key][0] for key in keys], sampling), strict=True)
    if pairs:
        asked = pairs.values()
        scores = lm.score([each.prompt for each in asked], [each.continuation for each in asked])
        replies |= zip(pairs, scores, strict=True)
    return [_reply(request, replies[_key(request)]) for request in requests]


def _reply(request: Request, reply: Any) -> Completion | Score:
    return cast(Completion | Score, reply[request.sample] if isinstance(request, Generate) else reply)


def _key(request: Request) -> Key:
    """What makes requests equal, except which sample is meant; tool calls in a conversation have no hash."""
    prompt = request.prompt
    text = prompt if isinstance(prompt, str) else json.dumps([prompt.as_dicts(), prompt.tools], default=dict)
    more = request.sampling if isinstance(request, Generate) else request.continuation
    return isinstance(prompt, str), text, more
