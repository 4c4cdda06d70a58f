"""A light client for `bench/serve.py`: streams over plain sockets, so that the load costs few cycles, and the
mixed load of its soak."""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]
WORDS = ("river", "stone", "lamp", "orange", "window", "dog", "bridge", "letter", "garden", "cloud", "train")
PATIENCE = 900.0
"""Seconds after which a request counts as not answered; a full queue takes minutes."""


@dataclass
class Answer:
    """One response: seconds to its first text and to its end, its texts, whether the stream came to its
    proper end, and if not, what came."""

    status: int = 0
    first: float = 0.0
    whole: float = 0.0
    pieces: list[str] = field(default_factory=list)
    ended: bool = False
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
        rest, failed = b"", False
        async for line in reader:
            rest += line
            piece = json.loads(line[6:]) if line.startswith(b"data: {") else {}
            failed |= "error" in piece
            answer.ended |= line.startswith(b"data: [DONE]") and not failed
            for text in texts(piece):
                answer.first = answer.first or time.perf_counter() - began
                answer.pieces.append(text)
        if not answer.pieces or not answer.ended:
            answer.error = rest.decode(errors="replace")[-300:]
    finally:
        writer.close()
    answer.whole = time.perf_counter() - began
    return answer


def texts(piece: Body) -> Iterator[str]:
    """The text in a piece of a stream."""
    for choice in piece.get("choices", ()):
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


async def mixed_load(
    port: int,
    seconds: float,
    rate: float,
    *,
    most_words: int = 120,
    each_second: Callable[[], object] = lambda: None,
) -> Counter[str]:
    """How many requests ended how, of `rate` a second: short and long ones, one in five with two samples, and
    one in ten whose client leaves.

    Answered to their end they count as 200, refused ones by their status, those that leave as `left`.
    """
    draw, found, tasks = random.Random(0), Counter[str](), set[asyncio.Task[None]]()

    async def one(text: str, kind: float) -> None:
        body = completion(text, draw.choice((4, 16, 48)))
        if kind < 0.2:
            body |= {"temperature": 1.0, "n": 2}
        leaves = kind > 0.9
        try:
            async with asyncio.timeout(0.3 if leaves else PATIENCE):
                answer = await ask(port, "/v1/completions", body)
            whole = answer.status != 200 or answer.ended
            found[str(answer.status) if whole else "cut off"] += 1
            if not whole:
                print(f"cut off: {answer.error}", file=sys.stderr, flush=True)
        except TimeoutError:
            found["left" if leaves else "late"] += 1
        except (OSError, IndexError) as error:  # no connection, or closed without a status
            found[type(error).__name__] += 1

    end, tick = time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < end:
        task = asyncio.create_task(one(_words(draw, draw.randint(1, most_words)), draw.random()))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if time.monotonic() > tick:
            each_second()
            tick += 1
        await asyncio.sleep(draw.expovariate(rate))
    await asyncio.gather(*tasks)
    return found


def texts_of(count: int, words: int, seed: int) -> list[str]:
    """Texts that begin differently, so that no server shares their prefixes."""
    draw = random.Random(seed)
    return [_words(draw, words) for _ in range(count)]


def _words(draw: random.Random, count: int) -> str:
    return " ".join(draw.choices(WORDS, k=count))
