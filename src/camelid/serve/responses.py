"""The stateless core of OpenAI's `/v1/responses`: the answers of chat completions as items and events."""

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from camelid.base.errors import CamelidError
from camelid.engine.generation import Generation
from camelid.serve.asking import Clock
from camelid.serve.chat import Chat
from camelid.serve.errors import as_api_error
from camelid.serve.models import Served
from camelid.serve.reply import THOUGHT, Parts, calls_of
from camelid.serve.responses_bodies import ResponsesBody
from camelid.text.stream import StreamDecoder

Shape = dict[str, Any]


async def responses_response(served: Served, body: ResponsesBody) -> Shape:
    """The whole response."""
    chat = await Chat.begin(served, body.asked())
    [parts] = await chat.whole(Clock())
    return _ended(served, _response(served, body), chat.generations[0], [*_items(parts)])


async def responses_stream(served: Served, body: ResponsesBody) -> AsyncIterator[Shape | None]:
    """The events of the response, numbered; None where a comment should keep the connection open."""
    return _numbered(_events(await Chat.begin(served, body.asked()), body))


async def _numbered(events: AsyncIterator[Shape | None]) -> AsyncIterator[Shape | None]:
    number = 0
    async for event in events:
        yield event if event is None else {**event, "sequence_number": number}
        number += event is not None


async def _events(chat: Chat, body: ResponsesBody) -> AsyncIterator[Shape | None]:
    response, output = _response(chat.served, body), Output()
    for kind in ("created", "in_progress"):
        yield {"type": f"response.{kind}", "response": response}
    try:
        async for growth in chat.growing(Clock()):
            if growth is None:
                yield None
                continue
            for event in output.grow(growth.delta):
                yield event
    except CamelidError as error:
        refused = as_api_error(error)
        failed = {"code": "server_error", "message": refused.message}
        yield {"type": "response.failed", "response": response | {"status": "failed", "error": failed}}
        return
    for event in output.close():
        yield event
    ended = _ended(chat.served, response, chat.generations[0], output.items)
    yield {"type": f"response.{ended['status']}", "response": ended}


class Output:
    """The items of a response as events: one is open at a time."""

    def __init__(self) -> None:
        self.items: list[Shape] = []
        self._open = ""

    def grow(self, delta: Shape) -> Iterator[Shape]:
        """The events of a chat completion's delta."""
        for key, kind in (("reasoning_content", "reasoning"), ("content", "message")):
            if text := delta.get(key):
                if self._open != kind:
                    yield from self._begin(_reasoning() if kind == "reasoning" else _message())
                    if kind == "message":
                        yield self._event("content_part.added", part=dict(self._part))
                self._part["text"] += text
                yield self._event(f"{_text_event(kind)}.delta", delta=text, **_logprobs(kind))
        for call in delta.get("tool_calls", ()):
            item = _call(call)
            arguments, item["arguments"] = item["arguments"], ""
            yield from self._begin(item | {"status": "in_progress"})
            yield self._event("function_call_arguments.delta", delta=arguments)
            self.items[-1]["arguments"] = arguments

    def close(self) -> Iterator[Shape]:
        """The end of the open item."""
        if not self._open:
            return
        item, kind, self._open = self.items[-1], self._open, ""
        if kind == "function_call":
            yield self._event("function_call_arguments.done", arguments=item["arguments"], name=item["name"])
        else:
            yield self._event(f"{_text_event(kind)}.done", text=self._part["text"], **_logprobs(kind))
        if kind == "message":
            yield self._event("content_part.done", part=self._part)
        if "status" in item:
            item["status"] = "completed"
        yield {"type": "response.output_item.done", "output_index": len(self.items) - 1, "item": item}

    @property
    def _part(self) -> Shape:
        part: Shape = self.items[-1]["content"][0]
        return part

    def _begin(self, item: Shape) -> Iterator[Shape]:
        yield from self.close()
        self.items.append(item)
        self._open = item["type"]
        begun = item | ({"content": []} if "content" in item else {})
        yield {"type": "response.output_item.added", "output_index": len(self.items) - 1, "item": begun}

    def _event(self, kind: str, **more: Any) -> Shape:
        item = self.items[-1]
        place = {"item_id": item["id"], "output_index": len(self.items) - 1}
        return {
            "type": f"response.{kind}",
            **place,
            **({"content_index": 0} if "content" in item else {}),
            **more,
        }


def _text_event(kind: str) -> str:
    return "output_text" if kind == "message" else "reasoning_text"


def _logprobs(kind: str) -> Shape:
    return {"logprobs": []} if kind == "message" else {}


def _items(parts: Parts) -> Iterator[Shape]:
    for text, item in ((parts.reasoning, _reasoning()), (parts.content, _message())):
        if text:
            item["content"][0]["text"] = text
            yield item | ({"status": "completed"} if "status" in item else {})
    yield from map(_call, calls_of(parts))


def _reasoning() -> Shape:
    part = {"type": "reasoning_text", "text": ""}
    return {"type": "reasoning", "id": _id("rs"), "summary": [], "content": [part]}


def _message() -> Shape:
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    about = {"type": "message", "id": _id("msg"), "role": "assistant"}
    return {**about, "status": "in_progress", "content": [part]}


def _call(call: Shape) -> Shape:
    about = {"type": "function_call", "id": _id("fc"), "call_id": call["id"], "status": "completed"}
    return {**about, **call["function"]}


def _response(served: Served, body: ResponsesBody) -> Shape:
    """The response before its answer, with the settings that it was asked with."""
    given = body.model_dump(exclude={"input", "stream", "model", "include", "text", "store"}, by_alias=True)
    text = body.text.model_dump(by_alias=True, exclude_none=True) if body.text else {}
    return {
        "id": _id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "model": served.name,
        **given,
        "tools": given["tools"] or [],
        "tool_choice": given["tool_choice"] or "auto",
        "parallel_tool_calls": True,
        "truncation": "disabled",
        "text": {"format": {"type": "text"}} | text,
        "store": False,
        "previous_response_id": None,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "usage": None,
    }


def _ended(served: Served, response: Shape, generation: Generation, items: list[Shape]) -> Shape:
    cut = generation.finish_reason == "length"
    prompt, completion = len(generation.prompt), len(generation.tokens)
    return response | {
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": items,
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": generation.cached},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": _thought_tokens(served, generation)},
            "total_tokens": prompt + completion,
        },
    }


def _thought_tokens(served: Served, generation: Generation) -> int:
    """The tokens of an answer up to the end of its thoughts."""
    if not served.thinks:
        return 0
    decoder, text = StreamDecoder(served.engine.tokenizer), ""
    for count, token in enumerate(generation.tokens, start=1):
        text += decoder.push(token)
        if THOUGHT in text:
            return count
    return 0


def _id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"
