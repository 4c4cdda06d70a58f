"""Batches, pieces of prompts, shared beginnings, and shortages: none of them changes what is
said."""

from pathlib import Path

import pytest
import torch
from schedules import PROMPTS, Tiny, slowed, texts

from camelid.base.errors import WrongCall
from camelid.engine.engine import Engine
from camelid.engine.scoring import Scoring
from camelid.engine.sharing import shares, whole_shares
from camelid.engine.speculative import Proposal
from camelid.lm.sampling import Sampling
from camelid.text.tokenizer import Tokenizer


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nothing_about_the_schedule_changes_what_is_said(
    tiny: Tiny, tokenizer: Tokenizer, native: bool, temperature: float
) -> None:
    sampling = Sampling(max_new_tokens=16, temperature=temperature, samples=3)
    engine = Engine(tiny(), tokenizer, native=native)
    alone = [texts(Engine(tiny(), tokenizer, native=native), sampling, [prompt])[0] for prompt in PROMPTS]
    assert texts(engine, sampling) == alone
    # Once more, with everything in the cache.
    assert texts(engine, sampling) == alone
    # Pieces of 5 tokens, two at a time, and a cache that holds little more than one.
    assert texts(Engine(tiny(), tokenizer, native=native, step_tokens=5), sampling) == alone
    assert texts(Engine(tiny(), tokenizer, native=native, max_batch=2), sampling) == alone
    assert texts(Engine(tiny(), tokenizer, native=native, cache_tokens=128), sampling) == alone


def test_prompts_that_begin_alike_are_read_once(tiny: Tiny, tokenizer: Tokenizer, monkeypatch) -> None:
    engine = Engine(tiny(), tokenizer)
    read = []
    compute = engine.decoder.compute

    def counted(extensions):
        read.extend(token for extension in extensions for token in extension.tokens)
        return compute(extensions)

    monkeypatch.setattr(engine.decoder, "compute", counted)
    prompt = engine.encode(PROMPTS[0])
    engine.generate([PROMPTS[0]], samples=8, temperature=1.0, max_new_tokens=4)
    assert len(read) <= len(prompt) + 8 * 3
    read.clear()
    # Five prompts at once, which part only at their ends.
    engine = Engine(tiny(seed=1), tokenizer)
    compute = engine.decoder.compute
    monkeypatch.setattr(engine.decoder, "compute", counted)
    engine.generate(PROMPTS, max_new_tokens=1)
    encoded = [engine.encode(prompt) for prompt in PROMPTS]
    shared = len(encoded[-1]) // 16 * 16
    assert len(read) <= shared + sum(len(ids) - shared + 16 for ids in encoded)


@pytest.mark.parametrize("native", [True, False])
def test_a_short_prompt_does_not_wait_for_long_ones(tiny: Tiny, tokenizer: Tokenizer, native: bool) -> None:
    engine = Engine(tiny(), tokenizer, native=native, step_tokens=16)
    long = "".join(chr(97 + index * 7 % 26) for index in range(64))
    prompts = [long, long[::-1], "x" + long, "the"]
    alone = [engine.generate([prompt], max_new_tokens=4)[0][0].tokens for prompt in prompts]
    engine = Engine(tiny(), tokenizer, native=native, step_tokens=16)
    requests = [engine.request(prompt, Sampling(max_new_tokens=4)) for prompt in prompts]
    assert min(len(request.prompt) for request in requests[:3]) > 3 * 16
    assert len(requests[3].prompt) <= 8
    for request in requests:
        engine.submit(request)
    engine.step()
    assert [len(request.tokens) for request in requests] == [0, 0, 0, 1]
    first = {}
    for step in range(2, 50):
        for request, _ in engine.step():
            first.setdefault(request, step)
    # The oldest reads at least seven tokens at each step, whatever comes beside it.
    assert first[requests[0]] <= -(-len(requests[0].prompt) // 7)
    assert [tuple(request.tokens) for request in requests] == alone


@pytest.mark.parametrize(
    ("wanted", "budget", "expected"),
    [
        ([], 5, []),
        ([9], 5, [5]),
        ([100, 3], 16, [13, 3]),
        ([100, 50, 3], 16, [8, 5, 3]),
        ([20, 20, 20], 16, [16, 0, 0]),
        ([100, 2, 2, 2], 3, [2, 1, 0, 0]),
        ([100, 1], 1, [1, 0]),
        ([3, 2], 100, [3, 2]),
    ],
)
def test_shares_of_a_step_by_hand(wanted: list[int], budget: int, expected: list[int]) -> None:
    assert shares(wanted, budget) == expected


@pytest.mark.parametrize(
    ("wanted", "budget", "expected"),
    [
        ([], 5, []),
        ([9, 3], 5, [0]),
        ([4, 3, 2, 0], 6, [0, 2, 3]),
        ([0, 9, 8], 5, [0, 2]),
        ([1, 2, 3], 6, [0, 1, 2]),
    ],
)
def test_whole_shares_of_a_step_by_hand(wanted: list[int], budget: int, expected: list[int]) -> None:
    assert whole_shares(wanted, budget) == expected


def test_continuations_read_their_prompt_once(tiny: Tiny, tokenizer: Tokenizer, monkeypatch) -> None:
    engine = Engine(tiny(), tokenizer, max_batch=3)
    read = []
    compute = engine.decoder.compute
    monkeypatch.setattr(
        engine.decoder,
        "compute",
        lambda extensions: read.append(sum(len(each.tokens) for each in extensions)) or compute(extensions),
    )
    ends = [" cat", " one two three", " dogs ran over"]
    found = engine.score([PROMPTS[0]] * 3, ends)
    assert sum(read) == len(engine.encode(PROMPTS[0])) + sum(score.tokens - 1 for score in found)
    assert len(read) == 2
    # Beside generations, in pieces, one by one, and where the cache holds little more than one.
    for settings in ({}, {"step_tokens": 3}, {"max_batch": 1}, {"cache_tokens": 96}):
        other = Engine(tiny(), tokenizer, **settings)
        streams = [other.stream(prompt, max_new_tokens=20) for prompt in PROMPTS]
        begun = [next(stream) for stream in streams[:2]]
        beside = other.score([PROMPTS[0]] * 3, ends)
        assert [score.logprobs for score in beside] == [score.logprobs for score in found]
        assert len(begun) == 2
        for stream in streams:
            stream.close()
        assert other.decoder.pool.used == 0


def test_samples_take_blocks_for_their_own_tokens_alone(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer)
    sampling = Sampling(max_new_tokens=8, temperature=1.0)
    requests = [engine.request(PROMPTS[0], sampling, sample) for sample in range(10)]
    for request in requests:
        engine.submit(request)
    while not all(request.tokens for request in requests):
        engine.step()
    prompt = len(requests[0].prompt)
    # Every sample has at most the block in which the prompt ends, and one more.
    assert engine.decoder.pool.used <= prompt // 16 + 2 * 10
    while any(not request.ended for request in requests):
        engine.step()
    assert engine.decoder.pool.used == 0


def test_two_streams_share_the_batch(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer)
    alone = ["".join(engine.stream(prompt, max_new_tokens=12)) for prompt in PROMPTS[:2]]
    streams = [engine.stream(prompt, max_new_tokens=12) for prompt in PROMPTS[:2]]
    said = ["", ""]
    for first, second in zip(*streams, strict=False):
        said[0] += first
        said[1] += second
    assert all(whole.startswith(part) for whole, part in zip(alone, said, strict=True))
    assert len(said[0]) > 5


def test_a_score_takes_over_what_a_text_with_draft_tokens_has_read(tiny: Tiny, tokenizer: Tokenizer) -> None:
    """The text was preempted, and its last token is read beside draft tokens, which are not of the scored
    continuation."""
    engine = Engine(tiny(), tokenizer, step_tokens=1, draft="prompt")
    text = engine.request(PROMPTS[0], Sampling(max_new_tokens=12, temperature=1.0))
    engine.submit(text)
    while len(text.tokens) < 4:
        engine.step()
    engine.scheduler.preempt_all()
    engine.decoder.pool.forget()
    target = tokenizer.encode(" dogs ran over")
    scoring = Scoring([*text.prompt, *text.tokens], target)
    engine.submit(scoring)
    engine.proposer.propose = lambda generations: [Proposal((5, 6, 7), None) for _ in generations]
    took_over = 0
    while not scoring.ended:
        followed = any(scoring in running.followers for running in engine.scheduler.running)
        engine.step()
        took_over += followed and scoring.tokens != ()
    assert took_over
    assert scoring.error is None
    ids = [*scoring.prompt, *target]
    with torch.no_grad():
        logprobs = engine.model(torch.tensor([ids]))[0].log_softmax(-1)
    expected = [float(logprobs[len(scoring.prompt) - 1 + index, token]) for index, token in enumerate(target)]
    assert scoring.score().logprobs == pytest.approx(expected, abs=1e-4)


def test_scores_make_room_while_others_hold_the_cache(tiny: Tiny, tokenizer: Tokenizer) -> None:
    [[expected]] = Engine(tiny(), tokenizer).generate(PROMPTS[:1], max_new_tokens=40)
    [score] = Engine(tiny(), tokenizer).score(PROMPTS[1:2], [" mat and one"])
    engine = slowed(Engine(tiny(), tokenizer, cache_tokens=96, step_tokens=7))
    streams = [engine.stream(prompt, max_new_tokens=40) for prompt in PROMPTS[:3]]
    begun = [next(stream) for stream in streams]
    [beside] = engine.score(PROMPTS[1:2], [" mat and one"])
    assert beside.logprobs == pytest.approx(score.logprobs, abs=1e-5)
    assert begun[0] + "".join(streams[0]) == expected.text


def test_settings_of_the_engine_are_checked(tiny: Tiny, tokenizer: Tokenizer) -> None:
    for settings in (
        {"max_batch": 0},
        {"step_tokens": -5},
        {"cache_tokens": 0},
        {"cache": "8bit"},
        {"draft_tokens": 4},
    ):
        with pytest.raises(WrongCall, match=next(iter(settings))):
            Engine(tiny(), tokenizer, **settings)


def test_a_dtype_by_its_name_is_refused(shared: Path) -> None:
    with pytest.raises(WrongCall, match="dtype is 'bfloat16'; it must be"):
        Engine.load(shared / "weights" / "tinystories-656k", dtype="bfloat16")  # type: ignore[arg-type]


def test_scores_of_tokens_add_up_and_share_their_prompt(stories: Engine, shared: Path) -> None:
    [score] = stories.score(["Once upon a time"], [" there was a little girl"])
    assert score.logprob == pytest.approx(sum(score.logprobs))
    assert len(score.logprobs) == score.tokens
    assert stories.decoder.pool.used == 0
