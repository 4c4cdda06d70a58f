"""What a completion says of its own making: the prompt's ids, and how probable each token was when it was
drawn."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from camelid.engine.engine import Engine
from camelid.engine.generation import Generation
from camelid.lm.interface import Completion
from camelid.lm.sampling import Sampling
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import Tokenizer

Tiny = Callable[..., Transformer]
PROMPTS = ["the cat sat on the cat sat on", "one two three dogs ran", "a"]
BIAS = {70: 2.0, 80: -3.0, 101: -math.inf}
ALL = {
    "temperature": 1.7,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.01,
    "repetition_penalty": 1.2,
    "presence_penalty": 0.3,
    "frequency_penalty": 0.2,
    "logit_bias": BIAS,
}
SETTINGS = [
    {"temperature": 1.0},
    {"temperature": 0.6},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 1.3, "top_p": 0.7},
    {"temperature": 1.3, "min_p": 0.1},
    {"temperature": 1.0, "repetition_penalty": 1.5},
    {"temperature": 1.0, "presence_penalty": 1.0, "frequency_penalty": 0.5},
    {"temperature": 1.0, "logit_bias": BIAS},
    ALL,
]


def distribution(logits: Tensor, sampling: Sampling, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
    """Log-probabilities of the next token by the definitions, in plain torch and float64."""
    logits = logits.double().clone()
    for token in {*prompt, *answer}:
        factor = sampling.repetition_penalty
        logits[token] = logits[token] / factor if logits[token] > 0 else logits[token] * factor
    for token in set(answer):
        logits[token] -= sampling.presence_penalty + sampling.frequency_penalty * answer.count(token)
    for token, bias in dict(sampling.logit_bias).items():
        logits[token] += bias
    logits = logits / sampling.temperature
    if sampling.top_k is not None:
        logits[logits < logits.topk(sampling.top_k).values[-1]] = -math.inf
    if sampling.top_p is not None:
        shares, order = logits.softmax(-1).sort(descending=True)
        logits[order[shares.cumsum(-1) - shares >= sampling.top_p]] = -math.inf
    if sampling.min_p is not None:
        shares = logits.softmax(-1)
        logits[shares < sampling.min_p * shares.max()] = -math.inf
    return logits.log_softmax(-1)


def check(engine: Engine, prompt: str, said: Completion, sampling: Sampling) -> None:
    """Compares with the distribution that plain torch makes of the model's logits without a cache."""
    assert said.prompt_tokens == engine.encode(prompt)
    ids = [*said.prompt_tokens, *said.tokens]
    with torch.no_grad():
        logits = engine.model(torch.tensor([ids]))[0, len(said.prompt_tokens) - 1 : -1]
    expected = [
        distribution(row, sampling, said.prompt_tokens, said.tokens[:index])[token].item()
        for index, (row, token) in enumerate(zip(logits, said.tokens, strict=True))
    ]
    assert said.sampled_logprobs == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("changes", SETTINGS, ids=lambda changes: ",".join(changes))
def test_they_are_those_of_plain_torch(tiny: Tiny, tokenizer: Tokenizer, changes: dict[str, object]) -> None:
    engine = Engine(tiny(), tokenizer)
    sampling = Sampling(max_new_tokens=20, samples=2, **changes)  # type: ignore[arg-type]
    for prompt, row in zip(PROMPTS, engine.generate(PROMPTS, sampling), strict=True):
        for said in row:
            check(engine, prompt, said, sampling)


@pytest.mark.parametrize("changes", SETTINGS, ids=lambda changes: ",".join(changes))
@pytest.mark.parametrize("draft", ["a model", "prompt"])
def test_draft_tokens_do_not_change_them(
    tiny: Tiny, tokenizer: Tokenizer, draft: str, changes: dict[str, object]
) -> None:
    other = draft if draft == "prompt" else Engine(tiny(seed=1), tokenizer)
    engine = Engine(tiny(), tokenizer, draft=other)
    sampling = Sampling(max_new_tokens=20, samples=2, **changes)  # type: ignore[arg-type]
    for prompt, row in zip(PROMPTS, engine.generate(PROMPTS, sampling), strict=True):
        for said in row:
            check(engine, prompt, said, sampling)
    assert engine.proposer is not None
    assert engine.proposer.proposed > 0


def test_a_constraint_comes_first(tiny: Tiny, tokenizer: Tokenizer) -> None:
    pytest.importorskip("llguidance")
    engine = Engine(tiny(), tokenizer)
    # Two texts of one letter, each one token, after which nothing but the end may come.
    letters = tokenizer.encode("ac")
    assert len(letters) == 2
    sampling = Sampling(temperature=0.8, regex="[ac]", samples=8, logit_bias={letters[0]: 0.5})
    [row] = engine.generate(PROMPTS[:1], sampling)
    with torch.no_grad():
        logits = engine.model(torch.tensor([row[0].prompt_tokens]))[0, -1].double()
    logits[letters[0]] += 0.5
    shares = (logits[letters] / 0.8).log_softmax(-1).tolist()
    assert {said.tokens[0] for said in row} == set(letters)
    for said in row:
        expected = dict(zip(letters, shares, strict=True))[said.tokens[0]]
        assert said.sampled_logprobs == pytest.approx([expected, *[0.0] * (len(said.tokens) - 1)], abs=1e-4)


def test_greedy_choices_are_certain(tiny: Tiny, tokenizer: Tokenizer) -> None:
    for draft in (None, "prompt", Engine(tiny(seed=1), tokenizer)):
        engine = Engine(tiny(), tokenizer, draft=draft)
        for changes in ({}, {"repetition_penalty": 1.3, "top_p": 0.5}):
            for [said] in engine.generate(PROMPTS, max_new_tokens=12, **changes):
                assert said.sampled_logprobs == (0.0,) * 12
                assert max(said.logprobs) < 0


def test_without_filters_at_temperature_one_they_are_the_models_own(tiny: Tiny, tokenizer: Tokenizer) -> None:
    for [said] in Engine(tiny(), tokenizer).generate(PROMPTS, max_new_tokens=12, temperature=1.0):
        assert said.sampled_logprobs == pytest.approx(said.logprobs, abs=1e-5)


def test_four_tokens_by_hand(tokenizer: Tokenizer) -> None:
    """Probabilities 1/2, 1/4, 1/8 and 1/8 at temperature 1/2 are in the proportion 16 : 4 : 1 : 1."""
    logits = torch.log(torch.tensor([0.5, 0.25, 0.125, 0.125]))

    def chances(**changes: object) -> dict[int, float]:
        draws = {}
        for seed in range(200):
            sampling = Sampling(seed=seed, **changes)  # type: ignore[arg-type]
            token, logprob = Generation((0,), sampling, 0, 9, tokenizer).choose(logits, 0)
            draws[token] = math.exp(logprob)
        return draws

    assert chances(temperature=1.0) == pytest.approx({0: 1 / 2, 1: 1 / 4, 2: 1 / 8, 3: 1 / 8})
    assert chances(temperature=0.5) == pytest.approx({0: 16 / 22, 1: 4 / 22, 2: 1 / 22, 3: 1 / 22})
    assert chances(temperature=1.0, top_k=2) == pytest.approx({0: 2 / 3, 1: 1 / 3})
    assert chances(temperature=1.0, top_p=0.8) == pytest.approx({0: 4 / 7, 1: 2 / 7, 2: 1 / 7})
    assert chances(temperature=1.0, min_p=0.4) == pytest.approx({0: 2 / 3, 1: 1 / 3})
    # Token 1 four times as probable; then the prompt's token 0, whose logit -log 2 is doubled, half as
    # probable.
    assert chances(temperature=1.0, logit_bias={1: math.log(4)}) == pytest.approx(
        {0: 2 / 7, 1: 4 / 7, 2: 1 / 14, 3: 1 / 14}
    )
    assert chances(temperature=1.0, repetition_penalty=2.0) == pytest.approx(
        {0: 1 / 3, 1: 1 / 3, 2: 1 / 6, 3: 1 / 6}
    )


def test_a_draw_says_how_often_it_comes(tokenizer: Tokenizer) -> None:
    """Over many seeds, each token comes as often as its log-probability says."""
    logits = torch.log(torch.tensor([0.5, 0.25, 0.125, 0.125]))
    sampling = [Sampling(seed=seed, temperature=1.5, top_p=0.9) for seed in range(4000)]
    draws = [Generation((0,), each, 0, 9, tokenizer).choose(logits, 0) for each in sampling]
    shares = np.bincount([draw.token for draw in draws], minlength=4) / len(draws)
    for token, logprob in set(draws):
        assert shares[token] == pytest.approx(math.exp(logprob), abs=0.03)
