"""Requests that fail, are cancelled or interrupted leave the others as they were."""

import pytest
import torch
from schedules import PROMPTS, Tiny, slowed, texts

from camelid.base.errors import CamelidError, WrongCall
from camelid.engine.blocks import NoBlocksError
from camelid.engine.decoder import Extension, Predictions
from camelid.engine.engine import Engine
from camelid.engine.generation import Generation
from camelid.engine.speculative import Proposal
from camelid.lm.sampling import Sampling
from camelid.text.tokenizer import Tokenizer


def test_cancelled_requests_leave_no_blocks(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer, step_tokens=4, max_batch=3)
    requests = [engine.request(prompt, Sampling(max_new_tokens=8)) for prompt in [*PROMPTS, PROMPTS[0]]]
    for request in requests:
        engine.submit(request)
    for _ in range(3):
        engine.step()
    for request in requests[::2]:
        engine.cancel(request)
    while engine.scheduler.waiting or engine.scheduler.running:
        engine.step()
    assert all(request.ended for request in requests[1::2])
    assert engine.decoder.pool.used == 0
    assert not engine.decoder.pool.pending


def test_whoever_stops_listening_cancels(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = slowed(Engine(tiny(), tokenizer))
    stream = engine.stream(PROMPTS[0], temperature=1.0, max_new_tokens=40)
    next(stream)
    assert engine.decoder.pool.used
    [running] = engine.scheduler.running
    stream.close()
    assert not engine.decoder.pool.used
    assert len(running.request.tokens) < 20


def test_one_request_that_fails_lets_the_others_go_on(tiny: Tiny, tokenizer: Tokenizer, monkeypatch) -> None:
    engine = Engine(tiny(), tokenizer)
    compute = engine.decoder.compute
    requests = [engine.request(prompt, Sampling(max_new_tokens=6)) for prompt in PROMPTS[:3]]
    expected = texts(engine, Sampling(max_new_tokens=6))

    failing = requests[1]

    def short_of_memory(extensions: list[Extension]):
        answering = [each.sequence for each in extensions if len(each.sequence) >= len(failing.prompt)]
        if any(tuple(each.tokens[: len(failing.prompt)]) == failing.prompt for each in answering):
            raise CamelidError("out of memory for a step")
        return compute(extensions)

    monkeypatch.setattr(engine.decoder, "compute", short_of_memory)
    with pytest.raises(CamelidError, match="out of memory"):
        for _ in engine.run(requests):
            pass
    assert [request.tokens for request in (requests[0], requests[2])] == [
        list(expected[i][0]) for i in (0, 2)
    ]
    assert engine.decoder.pool.used == 0


def test_a_prompt_larger_than_the_cache_fails_alone(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer, cache_tokens=32)
    requests = [engine.request(prompt, Sampling(max_new_tokens=2)) for prompt in ("the cat", "x" * 60)]
    with pytest.raises(NoBlocksError):
        for _ in engine.run(requests):
            pass
    assert requests[0].finish_reason == "length"
    assert requests[1].error is not None


def test_an_interrupted_step_loses_nothing(tiny: Tiny, tokenizer: Tokenizer, monkeypatch) -> None:
    prompts = [PROMPTS[0], *PROMPTS[:2], PROMPTS[0]]
    expected = [each.tokens for [each] in Engine(tiny(), tokenizer).generate(prompts, max_new_tokens=8)]
    engine = Engine(tiny(), tokenizer)
    requests = [engine.request(prompt, Sampling(max_new_tokens=8)) for prompt in prompts]
    for request in requests:
        engine.submit(request)
    say, steps = Generation.accept, iter([False, False, True] * 100)

    def interrupted(self, *arguments):
        if next(steps):
            raise KeyboardInterrupt
        return say(self, *arguments)

    monkeypatch.setattr(Generation, "accept", interrupted)
    interruptions = 0
    while not all(request.ended for request in requests):
        try:
            engine.step()
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions > 3
    assert [tuple(request.tokens) for request in requests] == expected
    assert ["".join(request.pieces) for request in requests] == [each.completion().text for each in requests]
    assert engine.decoder.pool.used == 0


def test_an_error_of_one_request_is_its_own(tiny: Tiny, tokenizer: Tokenizer, monkeypatch) -> None:
    [[expected]] = Engine(tiny(), tokenizer).generate(PROMPTS[:1], max_new_tokens=8)
    engine = Engine(tiny(), tokenizer)
    bad, unread = (engine.request(prompt, Sampling(max_new_tokens=8)) for prompt in PROMPTS[1:3])
    monkeypatch.setattr(bad, "accept", lambda *_: [][0])
    begin = engine.decoder.begin

    def begun(prompt, generated=()):
        if tuple(prompt) == unread.prompt:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return begin(prompt, generated)

    monkeypatch.setattr(engine.decoder, "begin", begun)
    engine.submit(bad)
    engine.submit(unread)
    assert "".join(engine.stream(PROMPTS[0], max_new_tokens=8)) == expected.text
    assert isinstance(bad.error, IndexError)
    assert "out of memory with a single request" in str(unread.error)
    assert bad.ended
    assert unread.ended
    assert engine.decoder.pool.used == 0


def test_a_cancelled_request_has_ended(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = slowed(Engine(tiny(), tokenizer))
    first, second = (engine.request(prompt, Sampling(max_new_tokens=20)) for prompt in PROMPTS[:2])
    for _ in engine.run([first, second]):
        engine.cancel(first)
    assert first.ended
    assert first.finish_reason is None
    assert second.finish_reason
    with pytest.raises(WrongCall, match="submitted before"):
        engine.submit(second)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_told(
    tiny: Tiny, tokenizer: Tokenizer, native: bool, temperature: float
) -> None:
    model = tiny()
    with torch.no_grad():
        model.norm.weight[0] = float("nan")
    sampling = Sampling(max_new_tokens=4, temperature=temperature)
    # With draft tokens too: each of a model's own tokens comes again.
    for draft in (None, "prompt"):
        engine = Engine(model, tokenizer, native=native, draft=draft)
        with pytest.raises(CamelidError, match="not finite"):
            engine.generate(["the cat the cat the cat"], sampling)
    with pytest.raises(CamelidError, match="not finite"):
        engine.score(["the cat"], [" sat"])


def test_draft_tokens_are_judged_by_finite_logits(tiny: Tiny, tokenizer: Tokenizer, monkeypatch) -> None:
    model = tiny()
    for sampling in (Sampling(temperature=1.0, max_new_tokens=4), Sampling(max_new_tokens=4)):
        engine = Engine(model, tokenizer, draft="prompt")
        engine.proposer.propose = lambda generations: [Proposal((5, 6), None) for _ in generations]
        compute = engine.decoder.compute

        def broken(extensions: list[Extension], compute=compute) -> Predictions:
            logits = compute(extensions).logits
            return Predictions.of(logits * float("nan") if len(logits) > 1 else logits)

        monkeypatch.setattr(engine.decoder, "compute", broken)
        with pytest.raises(CamelidError, match="not finite"):
            engine.generate(["the cat"], sampling)
