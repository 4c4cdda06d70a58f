"""A light client for `bench/serve.py`: streams over plain sockets, so that the load costs few cycles."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]
PATIENCE = 900.0
"""Seconds after which a request counts as not answered; a full queue takes minutes."""


@dataclass
class Answer:
    """One response: seconds to its first text and to its end, its texts, tokens, and status."""

    status: int = 0
    first: float = 0.0
    whole: float = 0.0
    pieces: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


async def ask(port: int, path: str, body: Body) -> Answer:
    """A response, read to its end."""
    began, answer = time.perf_counter(), Answer()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        raw = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(raw)}\r\nConnection: close\r\n\r\n".encode() + raw)
        answer.status = int((await reader.readline()).split()[1])
        while (await reader.readline()).strip():
            pass
        rest = b""
        async for line in reader:
            rest += line
            for text in texts(line):
                answer.first = answer.first or time.perf_counter() - began
                answer.pieces.append(text)
        if not answer.pieces:
            answer.error = rest.decode(errors="replace")[:300]
    finally:
        writer.close()
    answer.whole = time.perf_counter() - began
    return answer


def texts(line: bytes) -> Iterator[str]:
    """The text in a line of a stream."""
    if line.startswith(b"data: {"):
        for choice in json.loads(line[6:]).get("choices", ()):
            text = choice.get("text") or choice.get("delta", {}).get("content")
            if text:
                yield text


def completion(prompt: str, new: int, **more: Any) -> Body:
    """A greedy completion as a stream."""
    return {"prompt": prompt, "max_tokens": new, "temperature": 0, "stream": True} | more


async def clients(
    port: int, prompts: list[str], count: int, new: int, bias: Body
) -> tuple[float, list[Answer]]:
    """Seconds in which so many clients, each with one request after the other, have all prompts answered."""
    left, answers = prompts[:], list[Answer]()

    async def client() -> None:
        while left:
            answers.append(await ask(port, "/v1/completions", completion(left.pop(), new, logit_bias=bias)))

    began = time.perf_counter()
    await asyncio.gather(*[client() for _ in range(count)])
    return time.perf_counter() - began, answers
