"""Logits that are not finite: one message whichever way a token is chosen, and only the affected row
fails."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from camelid.base.errors import CamelidError, WrongCall
from camelid.engine.engine import Engine
from camelid.engine.generation import Generation
from camelid.engine.perplexity import perplexity
from camelid.engine.sampling import apply_temperature, probabilities
from camelid.lm.sampling import Sampling
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import Tokenizer

Tiny = Callable[..., Transformer]
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temperature": 1.0},
    "top-p": {"temperature": 1.0, "top_p": 0.9},
    "top-k and min-p": {"temperature": 1.0, "top_k": 5, "min_p": 0.1},
    "penalties": {"repetition_penalty": 1.2, "presence_penalty": 0.5},
    "bias": {"logit_bias": {3: 1.0}, "temperature": 1.0},
    "constrained": {"regex": "[a-z ]+"},
    "constrained and sampled": {"regex": "[a-z ]+", "temperature": 0.7},
}


def poisoned(model: Transformer, token: int, value: float) -> Transformer:
    """The model, whose logits are not finite after `token` (and nowhere else, as its head is its own)."""
    with torch.no_grad():
        model.embed_tokens.weight[token] = value
    return model


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_only_the_affected_row_of_a_batch_fails(
    tiny: Tiny, tokenizer: Tokenizer, value: float, native: bool, way: str
) -> None:
    bad = tokenizer.encode("漢")[0]
    prompts, sampling = ["the cat", "the cat 漢", "a mat"], Sampling(max_new_tokens=5, **WAYS[way])
    engine = Engine(poisoned(tiny(tie_embeddings=False), bad, value), tokenizer, native=native)
    requests = [engine.request(prompt, sampling) for prompt in prompts]
    with pytest.raises(CamelidError, match="logits are not finite"):
        list(engine.run(requests))
    sound = Engine(tiny(tie_embeddings=False), tokenizer, native=native)
    for request, prompt in zip(requests[::2], prompts[::2], strict=True):
        [[expected]] = sound.generate([prompt], sampling)
        if bad not in expected.tokens:
            assert request.completion().tokens == expected.tokens
    assert isinstance(requests[1].error, CamelidError)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draft_that_fails_for_one_text_goes_on_for_others(
    tiny: Tiny, tokenizer: Tokenizer, temperature: float
) -> None:
    bad = tokenizer.encode("漢")[0]
    draft = Engine(poisoned(tiny(tie_embeddings=False), bad, math.nan), tokenizer)
    engine = Engine(tiny(tie_embeddings=False), tokenizer, draft=draft)
    sampling = Sampling(max_new_tokens=6, temperature=temperature)
    requests = [engine.request(prompt, sampling) for prompt in ("the cat 漢", "a mat")]
    with pytest.warns(UserWarning, match="without draft tokens: in the draft, .* not finite"):
        list(engine.run(requests))
    assert all(request.finish_reason for request in requests)
    assert engine.proposer is not None
    assert engine.proposer.proposed
    if temperature == 0:
        plain = Engine(tiny(tie_embeddings=False), tokenizer)
        expected = plain.generate(["the cat 漢", "a mat"], sampling)
        assert [request.tokens for request in requests] == [[*each.tokens] for [each] in expected]


def test_a_low_temperature_does_not_overflow(tiny: Tiny, tokenizer: Tokenizer) -> None:
    logits = np.array([3e38, 1e38, -3e38], dtype=np.float32)
    for sign in (1, -1):
        cold = probabilities(apply_temperature(sign * logits, 1e-9))
        assert cold.tolist() == ([1, 0, 0] if sign == 1 else [0, 0, 1])
    model = tiny()
    with torch.no_grad():
        model.norm.weight.mul_(1e33)
    [[greedy], [cold_text]] = [
        Engine(model, tokenizer).generate(["the cat"], max_new_tokens=6, temperature=temperature)[0]
        for temperature in (0.0, 1e-9)
    ]
    assert cold_text.tokens == greedy.tokens
    with pytest.raises(WrongCall, match="milder"):
        Engine(model, tokenizer).generate(["the cat"], repetition_penalty=1e-10, temperature=1.0)


def test_a_perplexity_of_logits_that_are_not_finite_is_an_error(tiny: Tiny, tokenizer: Tokenizer) -> None:
    bad = tokenizer.encode("漢")[0]
    with pytest.raises(CamelidError, match="logits are not finite"):
        perplexity(Engine(poisoned(tiny(tie_embeddings=False), bad, math.nan), tokenizer), ["the 漢 cat"])


@pytest.mark.parametrize(
    ("logits", "settings", "token"),
    [
        # vllm#1623, vllm#890, microsoft/aici#19, tensorflow#2774
        ([2.875, 2.9551, 11.0625, -2.4473], {"temperature": 1e-4}, 2),
        ([2.875, 2.9551, 11.0625, -2.4473], {"temperature": 1.0, "top_p": 1e-4}, 2),
        ([2.875e34, 2.9551e34, 11.0625e34, -2.4473e34], {"temperature": 1e-5}, 2),
        ([2.875, 2.9551, 11.0625, -2.4473], {"temperature": 3e-4, "logit_bias": {2: -100.0}}, 1),
        ([-1000.0, -1000.0], {"temperature": 1.0, "top_k": 1, "logit_bias": {1: 1.0}}, 1),
    ],
)
def test_extreme_logits_and_temperatures_of_public_reports(
    tokenizer: Tokenizer, logits: list[float], settings: dict[str, Any], token: int
) -> None:
    generation = Generation((1,), Sampling(**settings), 0, 9, tokenizer)
    assert generation.choose(torch.tensor(logits), 0) == (token, 0.0)
