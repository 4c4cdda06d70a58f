"""Drafts save steps and change nothing: greedy texts are equal, and every token has the model's own
distribution."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from camelid.base.errors import CamelidError, WrongCall
from camelid.engine.engine import Engine
from camelid.engine.generation import Generation
from camelid.engine.speculative import Pace, PromptLookup, Proposal, accepted_tokens
from camelid.lm.sampling import Sampling
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import Tokenizer, train_tokenizer

Tiny = Callable[..., Transformer]
PROMPTS = ["the cat sat on the cat sat on", "one two three dogs ran", "a"]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("draft_tokens", [1, 4])
def test_greedy_texts_are_equal(tiny: Tiny, tokenizer: Tokenizer, native: bool, draft_tokens: int) -> None:
    plain = Engine(tiny(), tokenizer, native=native).generate(PROMPTS, max_new_tokens=30)
    draft = Engine(tiny(seed=1, num_layers=1), tokenizer, native=native)
    for other in (draft, Engine(tiny(), tokenizer, native=native), "prompt"):
        engine = Engine(tiny(), tokenizer, native=native, draft=other, draft_tokens=draft_tokens)
        said = engine.generate(PROMPTS, max_new_tokens=30)
        assert [[each.tokens for each in row] for row in said] == [
            [each.tokens for each in row] for row in plain
        ]
        for ours, theirs in zip(said, plain, strict=True):
            assert ours[0].logprobs == pytest.approx(theirs[0].logprobs, abs=1e-4)
        assert engine.decoder.pool.used == 0
    # A model is its own best draft.
    itself = Engine(
        tiny(),
        tokenizer,
        native=native,
        draft=Engine(tiny(), tokenizer, native=native),
        draft_tokens=draft_tokens,
    )
    itself.generate(PROMPTS, max_new_tokens=30)
    assert itself.proposer.acceptance == 1
    assert itself.proposer.tokens_a_step == pytest.approx(1 + draft_tokens, rel=0.2)
    assert not itself.proposer._sequences


def test_the_speed_up_is_of_seconds(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer, draft="prompt")
    [[said]] = engine.generate(PROMPTS[:1], max_new_tokens=30)
    proposer = engine.proposer
    assert 0 < proposer.seconds < 60
    # By steps of the same length, it is the tokens that a step gave; by steps twice as long, twice as many.
    of_a_step = proposer.seconds / proposer.rounds
    assert proposer.speed_up(of_a_step) == pytest.approx(proposer.tokens_a_step)
    assert proposer.speed_up(2 * of_a_step) == pytest.approx(2 * proposer.tokens_a_step)
    assert 0 < engine.plain_step_seconds(PROMPTS[0]) < 10
    assert engine.decoder.pool.used == 0
    again = engine.generate(PROMPTS[:1], max_new_tokens=30)
    assert again[0][0].tokens == said.tokens


def test_the_law_of_texts_is_the_models(tiny: Tiny) -> None:
    # A vocabulary of which three tokens are left, so that all texts of three tokens can be counted.
    letters = train_tokenizer(["abc"] * 8, 260)
    model, smaller = (tiny_model(letters.vocab_size, seed) for seed in (0, 1))
    keep = letters.encode("abc")
    bias = {index: -float("inf") for index in range(letters.vocab_size) if index not in keep}
    sampling = Sampling(max_new_tokens=3, temperature=0.8, logit_bias=bias, top_p=0.95, samples=3000, seed=4)
    plain = Engine(model, letters, max_batch=500)
    expected = {}
    for text in product(keep, repeat=3):
        expected[text] = probability(plain, "ab", text, sampling)
    assert sum(expected.values()) == pytest.approx(1)
    for draft in (Engine(smaller, letters, max_batch=500), "prompt"):
        engine = Engine(model, letters, draft=draft, draft_tokens=2, max_batch=500)
        [said] = engine.generate(["ab"], sampling)
        counts = Counter(each.tokens for each in said)
        chi_square = sum(
            (counts[text] - len(said) * share) ** 2 / (len(said) * share)
            for text, share in expected.items()
            if share > 1e-9
        )
        # 26 degrees of freedom: above 60 once in 5,000 draws.
        assert chi_square < 60
        assert engine.proposer.proposed > 0


def tiny_model(vocabulary: int, seed: int) -> Transformer:
    from camelid.model.spec import ModelSpec

    spec = ModelSpec.llama(
        vocab_size=vocabulary, hidden_size=32, num_layers=1, num_heads=2, context_length=64
    )
    return Transformer(spec).initialize(seed, std=0.3).eval()


def probability(engine: Engine, prompt: str, text: tuple[int, ...], sampling: Sampling) -> float:
    ids, share = list(engine.encode(prompt)), 1.0
    generation = engine.request(prompt, sampling)
    for token in text:
        with torch.no_grad():
            logits = engine.model(torch.tensor([ids]))[0, -1].numpy()
        share *= generation.probabilities(logits)[token]
        ids.append(token)
    return share


class Scripted(Generation):
    """A generation whose random numbers are given."""

    def __init__(self, uniforms: list[float]) -> None:
        self.prompt, self.sampling, self.tokens = (0,), Sampling(temperature=1.0), []
        self._constraint, self.uniforms = None, uniforms

    def uniform(self) -> float:
        return self.uniforms.pop(0)


def test_one_token_by_hand() -> None:
    """Draft from q, target p: the first token's distribution is p, summed over draft tokens and random
    numbers."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.6, 0.3])
    logits = torch.log(torch.tensor(np.stack([p, p]), dtype=torch.float32))
    found, grid = np.zeros(3), 1000
    for draft_token, uniform in product(range(3), (np.arange(grid) + 0.5) / grid):
        said = accepted_tokens(
            Scripted([uniform, 0.5]), Proposal((draft_token,), q[None]), logits, iter([0, 0])
        )
        found[next(said).token] += q[draft_token] / grid
    assert found == pytest.approx(p, abs=1e-3)


def test_refused_draft_tokens_are_drawn_from_what_is_left() -> None:
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.6, 0.3])
    logits = torch.log(torch.tensor(np.stack([p, p]), dtype=torch.float32))
    proposal = Proposal((1,), q[None])
    # Token 1 is taken below 0.3 / 0.6; p - q leaves token 0 alone.
    certain = Proposal((1,), None)
    for uniforms, draft_token, said in [
        ([0.49, 0.9], proposal, [1, 2]),
        ([0.51, 0.9], proposal, [0]),
        ([0.29, 0.0], certain, [1, 0]),
        # Refused with certainty 1 - p: token 0 or 2, five to two.
        ([0.31, 0.7], certain, [0]),
        ([0.31, 0.72], certain, [2]),
    ]:
        draws = [*accepted_tokens(Scripted(uniforms), draft_token, logits, iter([0, 0]))]
        assert [draw.token for draw in draws] == said
        # Of p, whatever was drafted and whatever was left to draw from.
        assert [draw.logprob for draw in draws] == pytest.approx(np.log(p[said]), abs=1e-6)


def test_steps_without_draft_tokens_are_plain_ones(tiny: Tiny, tokenizer: Tokenizer, monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a step without draft tokens asked what to accept of them")

    monkeypatch.setattr("camelid.engine.scheduler.accepted_tokens", never)
    sampling = Sampling(max_new_tokens=12, temperature=1.0)
    plain = Engine(tiny(), tokenizer).generate(PROMPTS, sampling)
    silent = PromptLookup()
    monkeypatch.setattr(silent, "propose", lambda generations: [Proposal((), None) for _ in generations])
    engine = Engine(tiny(), tokenizer, draft="prompt")
    engine.proposer = silent
    assert engine.generate(PROMPTS, sampling) == plain
    with pytest.raises(AssertionError, match="without draft tokens"):
        Engine(tiny(), tokenizer, draft="prompt").generate(PROMPTS[:1], max_new_tokens=30)


def test_prompt_lookup_takes_the_last_place_of_the_longest_match() -> None:
    lookup = PromptLookup(draft_tokens=3)

    def draft_token(*text: int, limit: int = 50) -> tuple[int, ...]:
        generation = Scripted([])
        generation.prompt, generation.limit = text, limit
        return lookup.propose([generation])[0].tokens

    assert draft_token(1, 2, 3, 4, 5, 1, 2, 3) == (4, 5, 1)
    assert draft_token(7, 2, 9, 8, 2, 6, 6, 2) == (6, 6, 2)
    assert draft_token(1, 2, 3) == ()
    assert draft_token(1, 2, 3, 4, 1, 2, limit=2) == (3,)


def test_a_draft_of_another_vocabulary_is_refused(tiny: Tiny, tokenizer: Tokenizer) -> None:
    other = train_tokenizer(["something else entirely"] * 8, 280)
    draft = Engine(tiny_model(other.vocab_size, 0), other)
    with pytest.raises(WrongCall, match="another vocabulary"):
        Engine(tiny(), tokenizer, draft=draft)
    with pytest.raises(WrongCall, match="at least 1"):
        Engine(tiny(), tokenizer, draft="prompt", draft_tokens=0)


@pytest.mark.parametrize("text", ["the cat sat on the cat", "one two"])
@pytest.mark.parametrize("draft", ["a model", "prompt"])
def test_samples_that_follow_a_drafting_one_begin_where_it_had_read(
    tiny: Tiny, tokenizer: Tokenizer, draft: str, text: str
) -> None:
    prompts = [text] * 6
    model = tiny(context_length=160)
    plain = Engine(model, tokenizer).generate(prompts, max_new_tokens=70)
    drafting = Engine(
        model,
        tokenizer,
        draft=draft if draft == "prompt" else Engine(model, tokenizer),
        cache_tokens=112,
        step_tokens=1,
    )
    said = drafting.generate(prompts, max_new_tokens=70)
    assert [row[0].tokens for row in said] == [row[0].tokens for row in plain]
    assert drafting.decoder.pool.used == 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("padding", [32, 0])
def test_a_draft_may_be_padded_differently(
    tiny: Tiny, tokenizer: Tokenizer, temperature: float, padding: int
) -> None:
    size, more = tokenizer.vocab_size + padding, tokenizer.vocab_size + 32 - padding
    sampling = Sampling(max_new_tokens=12, temperature=temperature, logit_bias={size - 1: 0.5})
    for native in (True, False):
        draft = Engine(tiny(seed=1, vocab_size=more), tokenizer, native=native)
        engine = Engine(tiny(vocab_size=size), tokenizer, draft=draft, native=native)
        [[said]] = engine.generate(PROMPTS[:1], sampling)
        assert len(said.tokens) == 12
        assert engine.proposer.rounds
        if temperature == 0:
            [[plain]] = Engine(tiny(vocab_size=size), tokenizer).generate(PROMPTS[:1], sampling)
            assert said.tokens == plain.tokens


def test_a_draft_that_fails_is_given_up(tiny: Tiny, tokenizer: Tokenizer, monkeypatch) -> None:
    plain = Engine(tiny(), tokenizer).generate(PROMPTS, max_new_tokens=12)
    draft = Engine(tiny(), tokenizer)
    engine = Engine(tiny(), tokenizer, draft=draft)
    extend, calls = draft.decoder.extend, iter(range(100))

    def failing(extensions):
        if next(calls) == 3:
            raise CamelidError("out of memory for a step of 4 tokens")
        return extend(extensions)

    monkeypatch.setattr(draft.decoder, "extend", failing)
    with pytest.warns(UserWarning, match="draft fails"):
        said = engine.generate(PROMPTS, max_new_tokens=12)
    assert [row[0].tokens for row in said] == [row[0].tokens for row in plain]
    assert draft.decoder.pool.used == engine.decoder.pool.used == 0


def test_draft_tokens_take_no_blocks_that_the_text_needs(tiny: Tiny, tokenizer: Tokenizer) -> None:
    prompt = "the cat sat on a mat"
    plain = Engine(tiny(), tokenizer, cache_tokens=32)
    limit = 33 - len(plain.encode(prompt))
    [[expected]] = plain.generate([prompt], max_new_tokens=limit)
    drafting = Engine(tiny(), tokenizer, cache_tokens=32, draft=Engine(tiny(), tokenizer), draft_tokens=8)
    # More may come than there is room for, so that draft tokens reach beyond the cache.
    requests = [drafting.request(prompt, Sampling(max_new_tokens=limit + 8))]
    for _ in zip(range(limit), drafting.run(requests), strict=False):
        pass
    assert tuple(requests[0].tokens[:limit]) == expected.tokens


def test_constraints_and_speculation_together(tiny: Tiny, tokenizer: Tokenizer) -> None:
    pytest.importorskip("llguidance")
    sampling = Sampling(max_new_tokens=12, regex="(cat|dog|mat)( cat)*", temperature=1.0)
    plain = Engine(tiny(), tokenizer).generate(PROMPTS, sampling)
    assert Engine(tiny(), tokenizer, draft="prompt").generate(PROMPTS, sampling) == plain
    assert replace(sampling).is_constrained


def test_the_pace_of_draft_tokens_by_hand() -> None:
    pace = Pace(8, longest_rest=32)
    assert pace.draft_tokens() == 8
    sizes = []
    for proposed, taken in [(8, 8), (8, 3), (4, 4), (8, 0), (4, 0), (2, 1)]:
        pace.learn(proposed, taken)
        sizes.append(pace.draft_tokens())
    assert sizes == [8, 4, 8, 4, 2, 2]
    rests = []
    for _ in range(8):
        pace.learn(pace.size, 0)
        rests.append(0)
        while pace.draft_tokens() == 0:
            rests[-1] += 1
    assert rests == [0, 0, 4, 8, 16, 32, 32, 32]
    pace.learn(1, 1)
    assert (pace.draft_tokens(), pace.draft_tokens()) == (2, 2)
    untiring = Pace(8, longest_rest=0)
    for _ in range(9):
        untiring.learn(untiring.size, 0)
        assert untiring.draft_tokens() >= 1
    untiring.size = 6
    untiring.learn(1, 1)  # no more was found
    assert untiring.size == 6


def test_a_draft_that_is_never_right_is_asked_rarely(tiny: Tiny, tokenizer: Tokenizer) -> None:
    draft = tiny()
    assert draft.lm_head is not None
    with torch.no_grad():
        draft.lm_head.weight.zero_()  # all logits are equal: it always says token 0
    engine = Engine(tiny(), tokenizer, draft=Engine(draft, tokenizer))
    [[answer]] = engine.generate(["the cat"], max_new_tokens=80, logit_bias={0: -100.0})
    assert 0 not in answer.tokens
    assert engine.proposer is not None
    assert engine.proposer.accepted == 0
    assert 4 + 2 + 1 <= engine.proposer.proposed <= 12 + len(answer.tokens) // 16
