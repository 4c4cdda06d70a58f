"""`/v1/chat/completions`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from camelid.base.errors import CamelidError
from camelid.engine.generation import Generation
from camelid.serve.answers import Header, Shape, TokenReport, usage
from camelid.serve.asking import Clock, advancing
from camelid.serve.bodies import ChatBody
from camelid.serve.errors import ApiError
from camelid.serve.models import Served
from camelid.serve.reply import THINK, Parts, Reply, message_of

PAUSE_SECONDS = 10.0
"""After so long without a token a comment is sent, so that nobody in between closes the connection."""


async def chat_response(served: Served, body: ChatBody) -> Shape:
    """The whole response."""
    clock, generations = Clock(), await _generations(served, body)
    async for _ in advancing(served, generations, every_token=True):
        clock.tick()
    choices = [_choice(served, body, index, each) for index, each in enumerate(generations)]
    counted = usage(generations)
    return Header("chat.completion", served.name, "chatcmpl").around(
        choices, usage=counted, timings=clock.timings(counted["completion_tokens"])
    )


async def chat_stream(served: Served, body: ChatBody) -> AsyncIterator[Shape | None]:
    """The pieces of the response; None where a comment should keep the connection open."""
    generations = await _generations(served, body)
    return _pieces(served, body, generations)


async def _pieces(
    served: Served, body: ChatBody, generations: list[Generation]
) -> AsyncIterator[Shape | None]:
    header, clock = Header("chat.completion.chunk", served.name, "chatcmpl"), Clock()
    index_of = {each: index for index, each in enumerate(generations)}
    reports = [TokenReport(served.engine.tokenizer, each) for each in generations]
    replies = [_reply(served, body, each) for each in generations]
    sent = [0] * len(generations)
    for index in range(len(generations)):
        yield header.around([_delta(index, {"role": "assistant", "content": ""})])
    async for update in advancing(served, generations, every_token=True, pause=PAUSE_SECONDS):
        if update is None:
            yield None
            continue
        generation, ended = update
        clock.tick()
        index = index_of[generation]
        text = taken(generation)
        sent[index] += len(text.encode())
        if delta := replies[index].delta(text, ended):
            choice = _delta(index, delta)
            if body.logprobs:
                choice["logprobs"] = {"content": reports[index].until(sent[index])}
            yield header.around([choice])
        if ended:
            yield header.around([_delta(index, {}, _reason(generation, replies[index].parts()))])
    if body.includes_usage:
        counted = usage(generations)
        yield header.around([], usage=counted, timings=clock.timings(counted["completion_tokens"]))


def taken(generation: Generation) -> str:
    """The text that nobody has taken yet."""
    pieces: list[str] = []
    while generation.pieces:
        pieces.append(generation.pieces.popleft())
    return "".join(pieces)


def _delta(index: int, delta: Shape, reason: str | None = None) -> Shape:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


def _choice(served: Served, body: ChatBody, index: int, generation: Generation) -> Shape:
    completion, reply = generation.completion(), _reply(served, body, generation)
    reply.text = completion.text
    parts = reply.parts()
    logprobs: Any = None
    if body.logprobs:
        report = TokenReport(served.engine.tokenizer, generation)
        logprobs = {"content": report.until(len(completion.text.encode()))}
    return {
        "index": index,
        "message": message_of(parts),
        "logprobs": logprobs,
        "finish_reason": _reason(generation, parts),
    }


def _reply(served: Served, body: ChatBody, generation: Generation) -> Reply:
    opened = served.thinks and served.engine.tokenizer.decode(generation.prompt[-8:]).rstrip().endswith(THINK)
    return Reply(served.call_form if body.offers_tools else None, served.thinks, opened)


def _reason(generation: Generation, parts: Parts) -> str | None:
    return "tool_calls" if parts.calls and generation.finish_reason == "stop" else generation.finish_reason


async def _generations(served: Served, body: ChatBody) -> list[Generation]:
    """The request's samples; templates and grammars take their time, so outside the event loop."""
    sampling = body.sampling(body.most_tokens or served.engine.context_length, **body.constraint())
    shown = list[str]()
    if body.offers_tools:
        try:
            shown.append(served.call_form.begin)
        except CamelidError as error:
            raise ApiError(400, f"tools are not supported: {error}", param="tools") from error
    return await asyncio.to_thread(
        served.generations, body.conversation(), sampling, body.alternatives or 0, shown
    )
