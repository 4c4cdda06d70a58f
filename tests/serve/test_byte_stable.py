"""The same request has the same answer: in any batch, from a warm cache, with draft tokens, or streamed."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from running_server import PATIENCE, Server, get, post

from camelid.engine.engine import Engine
from camelid.engine.native.decoder import NativeDecoder
from camelid.serve.app import make_app
from camelid.serve.models import Models, Served

STORY = "the cat sat on a mat and then one two three dogs ran over to it; "
PROMPTS = [STORY[:end] for end in (9, 14, 23, 31, 40, 52, 64)] + [STORY[at:] for at in range(2, 20, 2)]
GREEDY = {"max_tokens": 24, "temperature": 0}
SAMPLED = {"max_tokens": 24, "temperature": 1.0, "top_p": 0.9, "seed": 7}


@pytest.fixture(scope="module")
def plain(engine: Engine) -> Iterator[str]:
    with Engine(engine.model, engine.tokenizer, max_batch=16) as own:
        if not isinstance(own.decoder, NativeDecoder):
            pytest.skip("the decoder in C is not used here, and others are not byte-stable")
        with Server(make_app(Models([Served("tiny", own)]))) as server:
            yield server.url


@pytest.fixture(scope="module")
def drafting(engine: Engine) -> Iterator[str]:
    with (
        Engine(engine.model, engine.tokenizer, max_batch=16, draft="prompt") as own,
        Server(make_app(Models([Served("tiny", own)]))) as server,
    ):
        yield server.url


def ask(url: str, prompt: str, settings: dict[str, object]) -> str:
    body = {"messages": [{"role": "user", "content": prompt}]} | settings
    text: str = post(f"{url}/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    return text


def ask_all(url: str, settings: dict[str, object]) -> list[str]:
    with ThreadPoolExecutor(16) as pool:
        return [*pool.map(lambda prompt: ask(url, prompt, settings), PROMPTS)]


def streamed(url: str, prompt: str, settings: dict[str, object]) -> str:
    body = {"messages": [{"role": "user", "content": prompt}], "stream": True} | settings
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=PATIENCE) as response:
        data = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: {")]
    return "".join(json.loads(line)["choices"][0]["delta"].get("content", "") for line in data)


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_answers_do_not_depend_on_the_batch_or_the_cache(
    plain: str, settings: dict[str, object], request: pytest.FixtureRequest
) -> None:
    first = [ask(plain, prompt, settings) for prompt in PROMPTS]  # one by one
    assert ask_all(plain, settings) == first  # 16 at a time, from a warm cache
    assert [streamed(plain, prompt, settings) for prompt in PROMPTS[:4]] == first[:4]
    if settings is GREEDY:
        assert ask_all(request.getfixturevalue("drafting"), settings) == first


def test_a_server_says_whether_it_is_byte_stable(plain: str, engine: Engine) -> None:
    [card] = get(f"{plain}/v1/models").json()["data"]
    assert card["byte_stable"] is True
    with Engine(engine.model, engine.tokenizer, native=False) as other:
        assert Served("other", other).card()["byte_stable"] is False
