"""Admission: how often the prompts of waiting requests are hashed."""

from collections.abc import Callable

import pytest

from camelid.engine import blocks
from camelid.engine.engine import Engine
from camelid.engine.generation import Generation
from camelid.engine.waiting import MOST_LOOKS
from camelid.lm.sampling import Sampling
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import Tokenizer

Tiny = Callable[..., Transformer]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of blocks hashed, as a list of ones."""
    found: list[int] = []
    digest = blocks.hashlib.blake2b
    monkeypatch.setattr(
        blocks.hashlib, "blake2b", lambda *given, **how: found.append(1) or digest(*given, **how)
    )
    return found


def requests(tokenizer: Tokenizer, count: int, head: int) -> list[Generation]:
    """Prompts that begin alike and end in tokens of their own."""
    prompts = [[5] * head + [20 + index % 200, 20 + index // 200, *[30] * 14] for index in range(count)]
    return [Generation(prompt, Sampling(max_new_tokens=30), 0, 30, tokenizer) for prompt in prompts]


def test_waiting_prompts_are_hashed_once_and_a_few_at_a_step(
    tiny: Tiny, tokenizer: Tokenizer, hashed: list[int]
) -> None:
    engine = Engine(tiny(), tokenizer, max_batch=4, step_tokens=8)
    for request in requests(tokenizer, 300, head=48):
        engine.scheduler.submit(request)
    counts = []
    for _ in range(8):  # the first prompt is read, 8 tokens at a step, and the others wait for its blocks
        hashed.clear()
        engine.scheduler.step()
        counts.append(len(hashed))
    each = 9  # three full blocks and the start of a fourth: sought, then found to be awaited
    assert max(counts) <= (MOST_LOOKS + 4) * each
    assert sum(counts) <= 300 * each


def test_a_prompt_without_room_is_hashed_again_when_blocks_are_free(
    tiny: Tiny, tokenizer: Tokenizer, hashed: list[int]
) -> None:
    engine = Engine(tiny(), tokenizer, max_batch=4, cache_tokens=96)
    [first] = requests(tokenizer, 1, head=32)
    other = Generation([9] * 70, Sampling(max_new_tokens=4), 0, 4, tokenizer)
    for request in (first, other):
        engine.scheduler.submit(request)
    counts = []
    while not (first.ended and other.ended):
        hashed.clear()
        engine.scheduler.step()
        counts.append(len(hashed))
    assert first.finish_reason
    assert other.finish_reason
    waited = counts[2:20]  # both have been looked at; only the running answer's new blocks are hashed
    assert sum(waited) <= 3
