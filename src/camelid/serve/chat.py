"""`/v1/chat/completions`, and what it shares with the other ways to ask for an answer in a conversation."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from camelid.base.errors import CamelidError
from camelid.engine.generation import Generation
from camelid.serve.answers import Header, Shape, TokenReport, usage
from camelid.serve.asking import Clock, advancing
from camelid.serve.bodies import ChatBody
from camelid.serve.errors import ApiError
from camelid.serve.models import Served
from camelid.serve.reply import THINK, Parts, Reply, message_of
from camelid.text.tool_calls import CallForm

PAUSE_SECONDS = 10.0
"""After so long without a token a comment is sent, so that nobody in between closes the connection."""


class Growth(NamedTuple):
    """What a step adds to an answer: `delta` as in a stream of OpenAI's, `text` as the model wrote it."""

    sample: int
    text: str
    delta: Shape
    ended: bool


@dataclass(frozen=True)
class Chat:
    """A request with its samples; `lead` begins every answer and is a part of the prompt."""

    served: Served
    body: ChatBody
    generations: list[Generation]
    lead: str

    @classmethod
    async def begin(cls, served: Served, body: ChatBody) -> "Chat":
        """The samples; templates and grammars take their time, so outside the event loop."""
        return await asyncio.to_thread(cls._begin, served, body)

    @classmethod
    def _begin(cls, served: Served, body: ChatBody) -> "Chat":
        conversation, engine = body.conversation(), served.engine
        _check_variables(served, body.chat_template_kwargs or {})
        form = _call_form(served) if body.offers_tools else None
        constraint, lead = body.constraint(), ""
        prompt = served.encode(conversation)
        if form is not None and (functions := body.forced_functions()):
            if _opens_thoughts(served, prompt):
                raise ApiError(
                    400,
                    "tool_choice must be auto or none: this model begins with its thoughts",
                    param="tool_choice",
                )
            lead, constraint = form.lead, {"json_schema": form.schema(functions)}
            prompt += tuple(
                engine.tokenizer.encode(lead, markup=True, continues=engine.tokenizer.goes_on(prompt))
            )
        sampling = body.sampling(served.answer_tokens(body.most_tokens, "max_tokens"), **constraint)
        shown = [form.begin] if form is not None and form.begin else []
        generations = served.generations(prompt, sampling, body.alternatives or 0, shown)
        return cls(served, body, generations, lead)

    async def whole(self, clock: Clock) -> list[Parts]:
        """The answers, when all have ended."""
        async for _ in advancing(self.served, self.generations, every_token=True):
            clock.tick()
        answers = []
        for each in self.generations:
            reply = self._reply(each)
            reply.text += each.completion().text
            answers.append(reply.parts())
        return answers

    async def growing(self, clock: Clock) -> AsyncIterator[Growth | None]:
        """The answers as they grow; None where a comment should keep the connection open."""
        index_of = {each: index for index, each in enumerate(self.generations)}
        replies = [self._reply(each) for each in self.generations]
        async for update in advancing(self.served, self.generations, every_token=True, pause=PAUSE_SECONDS):
            if update is None:
                yield None
                continue
            generation, ended = update
            clock.tick()
            text, index = taken(generation), index_of[generation]
            yield Growth(index, text, replies[index].delta(text, ended), ended)

    def _reply(self, generation: Generation) -> Reply:
        return Reply(
            self.served.call_form if self.body.offers_tools else None,
            self.served.thinks,
            _opens_thoughts(self.served, generation.prompt),
            self.lead,
        )


async def chat_response(served: Served, body: ChatBody) -> Shape:
    """The whole response."""
    clock, chat = Clock(), await Chat.begin(served, body)
    answers = await chat.whole(clock)
    choices = [_choice(chat, index, parts) for index, parts in enumerate(answers)]
    counted = usage(chat.generations)
    return Header("chat.completion", served.name, "chatcmpl").around(
        choices, usage=counted, timings=clock.timings(counted["completion_tokens"])
    )


async def chat_stream(served: Served, body: ChatBody) -> AsyncIterator[Shape | None]:
    """The pieces of the response; None where a comment should keep the connection open."""
    return _pieces(await Chat.begin(served, body))


async def _pieces(chat: Chat) -> AsyncIterator[Shape | None]:
    header, clock = Header("chat.completion.chunk", chat.served.name, "chatcmpl"), Clock()
    reports = [TokenReport(chat.served.engine.tokenizer, each) for each in chat.generations]
    sent, calls = [0] * len(reports), set[int]()
    for index in range(len(reports)):
        yield header.around([_delta(index, {"role": "assistant", "content": ""})])
    async for growth in chat.growing(clock):
        if growth is None:
            yield None
            continue
        index = growth.sample
        sent[index] += len(growth.text.encode())
        if growth.delta:
            choice = _delta(index, growth.delta)
            if chat.body.logprobs:
                choice["logprobs"] = {"content": reports[index].until(sent[index])}
            calls |= {index} if "tool_calls" in growth.delta else set()
            yield header.around([choice])
        if growth.ended:
            yield header.around([_delta(index, {}, reason(chat.generations[index], index in calls))])
    if chat.body.includes_usage:
        counted = usage(chat.generations)
        yield header.around([], usage=counted, timings=clock.timings(counted["completion_tokens"]))


def taken(generation: Generation) -> str:
    """The text that nobody has taken yet."""
    pieces: list[str] = []
    while generation.pieces:
        pieces.append(generation.pieces.popleft())
    return "".join(pieces)


def reason(generation: Generation, calls: bool) -> str | None:
    """Why an answer ended; `calls`: whether it calls functions."""
    return "tool_calls" if calls and generation.finish_reason == "stop" else generation.finish_reason


def _delta(index: int, delta: Shape, reason: str | None = None) -> Shape:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


def _choice(chat: Chat, index: int, parts: Parts) -> Shape:
    generation, logprobs = chat.generations[index], None
    if chat.body.logprobs:
        report = TokenReport(chat.served.engine.tokenizer, generation)
        logprobs = {"content": report.until(len(generation.completion().text.encode()))}
    return {
        "index": index,
        "message": message_of(parts),
        "logprobs": logprobs,
        "finish_reason": reason(generation, bool(parts.calls)),
    }


def _check_variables(served: Served, names: Iterable[str]) -> None:
    if unknown := [name for name in names if not served.template_knows(name)]:
        raise ApiError(
            400,
            f"chat_template_kwargs.{unknown[0]}: the model's chat template does not know it",
            param="chat_template_kwargs",
        )


def _call_form(served: Served) -> CallForm:
    try:
        return served.call_form
    except CamelidError as error:
        raise ApiError(400, f"tools are not supported: {error}", param="tools") from error


def _opens_thoughts(served: Served, prompt: tuple[int, ...]) -> bool:
    return served.thinks and served.engine.tokenizer.decode(prompt[-8:]).rstrip().endswith(THINK)
