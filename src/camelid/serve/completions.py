"""`/v1/completions`, with `echo` and `logprobs` as evaluation harnesses use them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from camelid.engine.decoder import Top
from camelid.engine.generation import Generation
from camelid.engine.scoring import Scoring
from camelid.serve.answers import Header, Shape, legacy_logprobs, usage
from camelid.serve.asking import advancing, finished
from camelid.serve.bodies import CompletionBody
from camelid.serve.chat import PAUSE_SECONDS, taken
from camelid.serve.errors import ApiError
from camelid.serve.models import Served

MOST_TEXTS = 2048
"""Answers to one request."""


@dataclass
class Asked:
    """One prompt: its ids, its samples, and the scores of its own tokens if they are echoed with them."""

    ids: tuple[int, ...]
    generations: list[Generation]
    scoring: Scoring | None


async def completion_response(served: Served, body: CompletionBody) -> Shape:
    """The whole response: the samples of the first prompt, then those of the second, and so on."""
    asked = await asyncio.to_thread(_asked, served, body)
    generations = [each for one in asked for each in one.generations]
    scorings = [one.scoring for one in asked if one.scoring is not None]
    await finished(served, [*generations, *scorings])
    choices = [_choice(served, body, one, sample) for one in asked for sample in range(body.samples)]
    for index, choice in enumerate(choices):
        choice["index"] = index
    counted = usage(generations, len(asked)) if generations else _prompt_usage(asked)
    return Header("text_completion", served.name, "cmpl").around(choices, usage=counted)


async def completion_stream(served: Served, body: CompletionBody) -> AsyncIterator[Shape | None]:
    """The pieces of the response; None where a comment should keep the connection open."""
    if body.echo or body.logprobs is not None or not body.max_tokens:
        raise ApiError(400, "echo, logprobs and max_tokens: 0 are not streamed; ask without stream")
    asked = await asyncio.to_thread(_asked, served, body)
    return _pieces(served, body, [each for one in asked for each in one.generations], len(asked))


async def _pieces(
    served: Served, body: CompletionBody, generations: list[Generation], prompts: int
) -> AsyncIterator[Shape | None]:
    header = Header("text_completion", served.name, "cmpl")
    index_of = {each: index for index, each in enumerate(generations)}
    async for update in advancing(served, generations, every_token=True, pause=PAUSE_SECONDS):
        if update is None:
            yield None
            continue
        generation, ended = update
        text, reason = taken(generation), generation.finish_reason if ended else None
        if text or reason:
            index = index_of[generation]
            yield header.around([{"index": index, "text": text, "logprobs": None, "finish_reason": reason}])
    if body.includes_usage:
        yield header.around([], usage=usage(generations, prompts))


def _asked(served: Served, body: CompletionBody) -> list[Asked]:
    engine, alternatives = served.engine, body.logprobs or 0
    most = 0 if body.max_tokens == 0 else served.answer_tokens(body.max_tokens, "max_tokens")
    if most == 0 and not body.echo:
        raise ApiError(400, "max_tokens is 0, which needs echo: true", param="max_tokens")
    sampling = body.sampling(max(1, most))
    asked, prompts = [], body.prompts()
    if len(prompts) * body.samples > MOST_TEXTS:
        raise ApiError(400, f"a request has at most {MOST_TEXTS} answers: prompts times n", param="prompt")
    for prompt in prompts:
        ids = tuple(prompt) if isinstance(prompt, list) else served.encode(prompt)
        generations = served.generations(ids, sampling, alternatives) if most else []
        scores = body.echo and body.logprobs is not None and len(ids) > 1
        asked.append(Asked(ids, generations, engine.scoring(ids, alternatives) if scores else None))
    return asked


def _prompt_usage(asked: list[Asked]) -> Shape:
    count = sum(len(one.ids) for one in asked)
    return {"prompt_tokens": count, "completion_tokens": 0, "total_tokens": count}


def _choice(served: Served, body: CompletionBody, asked: Asked, sample: int) -> Shape:
    tokenizer = served.engine.tokenizer
    tokens: list[int] = []
    logprobs: list[float | None] = []
    top: list[Top | None] = []
    text, reason = "", "length"
    if body.echo:
        text = tokenizer.decode(asked.ids)
        tokens += asked.ids
        logprobs += [None, *(asked.scoring.score().logprobs if asked.scoring else ())]
        top += [None, *(asked.scoring.top if asked.scoring else ())]
    if asked.generations:
        generation = asked.generations[sample]
        completion = generation.completion()
        text += completion.text
        reason = completion.finish_reason
        tokens += completion.tokens
        logprobs += completion.logprobs
        top += generation.top
    report = None if body.logprobs is None else legacy_logprobs(tokenizer, tokens, logprobs, top)
    return {"index": 0, "text": text, "logprobs": report, "finish_reason": reason}
