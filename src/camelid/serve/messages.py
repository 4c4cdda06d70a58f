"""Anthropic's `/v1/messages`: the same answers as those of chat completions, in another shape."""

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

from camelid.engine.generation import Generation
from camelid.serve.asking import Clock
from camelid.serve.chat import Chat
from camelid.serve.errors import ApiError
from camelid.serve.messages_bodies import CountBody, MessagesBody
from camelid.serve.models import Served
from camelid.serve.reply import calls_of

Shape = dict[str, Any]
SWITCH = "enable_thinking"
"""The variable with which templates let a model think or not, as Qwen's."""


async def count_response(served: Served, body: CountBody) -> Shape:
    """How many tokens a prompt has."""
    chat = await Chat.begin(served, body.chat(max_tokens=1, chat_template_kwargs=_switch(served, body)))
    return {"input_tokens": len(chat.generations[0].prompt)}


async def messages_response(served: Served, body: MessagesBody) -> Shape:
    """The whole message."""
    chat = await _begin(served, body)
    [parts], [generation] = await chat.whole(Clock()), chat.generations
    content: list[Shape] = []
    if parts.reasoning:
        content.append({"type": "thinking", "thinking": parts.reasoning, "signature": ""})
    if parts.content:
        content.append({"type": "text", "text": parts.content})
    content += [_use(call) | {"input": json.loads(call["function"]["arguments"])} for call in calls_of(parts)]
    return _message(served, generation) | {"content": content, **_end(generation, bool(parts.calls))}


async def messages_stream(served: Served, body: MessagesBody) -> AsyncIterator[Shape | None]:
    """The events of the message; None where a comment should keep the connection open."""
    return _events(await _begin(served, body))


async def _events(chat: Chat) -> AsyncIterator[Shape | None]:
    [generation], blocks, called = chat.generations, Blocks(), False
    started = False
    async for growth in chat.growing(Clock()):
        if growth is None:
            yield None
            continue
        if not started:  # with the first token it is known how much of the prompt was in the cache
            started = True
            start = _message(chat.served, generation) | {"stop_reason": None, "stop_sequence": None}
            yield {"type": "message_start", "message": start}
        called = called or "tool_calls" in growth.delta
        for event in blocks.grow(growth.delta):
            yield event
    for event in blocks.close():
        yield event
    end = _end(generation, called)
    usage = end.pop("usage")
    yield {"type": "message_delta", "delta": end, "usage": usage}
    yield {"type": "message_stop"}


class Blocks:
    """The blocks of a message as events: one is open at a time."""

    def __init__(self) -> None:
        self._index, self._open = -1, ""

    def grow(self, delta: Shape) -> Iterator[Shape]:
        """The events of a chat completion's delta."""
        for key, kind in (("reasoning_content", "thinking"), ("content", "text")):
            if text := delta.get(key):
                if self._open != kind:
                    begin = {"signature": ""} if kind == "thinking" else {}
                    yield from self._begin(kind, {"type": kind, kind: "", **begin})
                yield self._delta({"type": f"{kind}_delta", kind: text})
        for call in delta.get("tool_calls", ()):
            yield from self._begin("tool_use", _use(call) | {"input": {}})
            yield self._delta({"type": "input_json_delta", "partial_json": call["function"]["arguments"]})

    def close(self) -> Iterator[Shape]:
        """The end of the open block."""
        if self._open:
            yield {"type": "content_block_stop", "index": self._index}
        self._open = ""

    def _begin(self, kind: str, block: Shape) -> Iterator[Shape]:
        yield from self.close()
        self._index, self._open = self._index + 1, kind
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _delta(self, delta: Shape) -> Shape:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}


async def _begin(served: Served, body: MessagesBody) -> Chat:
    return await Chat.begin(served, body.asked(chat_template_kwargs=_switch(served, body)))


def _switch(served: Served, body: CountBody) -> dict[str, bool] | None:
    """What tells the model's template to let it think or not; raises `ApiError` 400 where it cannot."""
    if body.thinking is None:
        return None
    wanted = body.thinking.type != "disabled"
    if wanted and not served.thinks:
        raise ApiError(
            400, f"thinking cannot be {body.thinking.type}: this model's chat template marks no thoughts"
        )
    if served.template_knows(SWITCH):
        return {SWITCH: wanted}
    if served.thinks and not wanted:
        raise ApiError(400, "thinking cannot be disabled: this model's chat template always asks for it")
    return None


def _message(served: Served, generation: Generation) -> Shape:
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": served.name,
        "content": [],
        "usage": _usage(generation),
    }


def _end(generation: Generation, calls: bool) -> Shape:
    """Why the message ends, and what it took."""
    reason = "end_turn"
    if generation.finish_reason == "length":
        cut = generation.limit < generation.sampling.max_new_tokens
        reason = "model_context_window_exceeded" if cut else "max_tokens"
    if generation.stopped_by is not None:
        reason = "stop_sequence"
    elif calls and reason == "end_turn":
        reason = "tool_use"
    return {"stop_reason": reason, "stop_sequence": generation.stopped_by, "usage": _usage(generation)}


def _usage(generation: Generation) -> Shape:
    """Tokens of the prompt apart from those that were in the cache, those, and the answer's."""
    return {
        "input_tokens": len(generation.prompt) - generation.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": generation.cached,
        "output_tokens": len(generation.tokens),
    }


def _use(call: Shape) -> Shape:
    return {"type": "tool_use", "id": call["id"].replace("call_", "toolu_"), "name": call["function"]["name"]}
