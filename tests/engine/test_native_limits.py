"""What the decoder in C says of a row beside its logits, and numbers, sizes and tokens at their limits."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from native_models import NEEDS_COMPILER, PLAIN, close, extend, fresh, ids, random_model

from camelid.base.errors import CamelidError
from camelid.engine.blocks import CachedSequence
from camelid.engine.decoder import Extension, TorchDecoder
from camelid.engine.engine import Engine
from camelid.engine.native.decoder import NativeDecoder
from camelid.model.spec import FeedForward, Window
from camelid.model.transformer import Transformer
from camelid.quant.quantize import quantize_model
from camelid.text.tokenizer import Tokenizer

pytestmark = NEEDS_COMPILER


@pytest.mark.parametrize("vocab", [1, 15, 16, 99, 4096, 4097, 13_000])
def test_predictions_are_those_of_the_logits(vocab: int) -> None:
    model = random_model(replace(PLAIN, vocab_size=vocab))
    assert model.lm_head is not None
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
        if vocab > 8192:
            # The largest three are equal, in different runs of the sum.
            model.lm_head.weight[5000] = model.lm_head.weight[100] = model.lm_head.weight[12_000]
    decoder = NativeDecoder(model, torch.float32, 128)
    tokens = [token % vocab for token in ids(50)]
    found = decoder.extend([Extension(CachedSequence(decoder.pool), tokens, 50)])
    assert found.greedy.tolist() == found.logits.numpy().argmax(1).tolist()
    assert torch.equal(found.highest, found.logits.amax(1))
    assert torch.allclose(found.log_total, found.logits.double().logsumexp(-1).float(), rtol=1e-5, atol=1e-5)
    logprobs, is_greedy = found.logprobs(found.greedy.tolist())
    assert is_greedy
    assert torch.allclose(logprobs, found.logits.log_softmax(-1).amax(1), rtol=1e-4, atol=1e-4)
    if vocab > 1:
        others = [(token + 1) % vocab for token in found.greedy.tolist()]
        assert not found.logprobs(others)[1]


@pytest.mark.parametrize("vocab", [99, 1000, 13_000])
def test_predictions_of_equal_and_of_impossible_tokens(vocab: int) -> None:
    """All logits equal; and the second half minus infinity, whole runs of the sum among them."""
    model = random_model(replace(PLAIN, vocab_size=vocab))
    assert model.lm_head is not None
    decoder = NativeDecoder(model, torch.float32, 32)
    weight = model.lm_head.weight.data
    weight.zero_()
    equal = decoder.extend([Extension(CachedSequence(decoder.pool), [3])])
    assert (int(equal.greedy), float(equal.highest)) == (0, 0.0)
    assert float(equal.log_total) == pytest.approx(math.log(vocab), rel=1e-6)
    with torch.no_grad():
        state = model.hidden_states(torch.tensor([[3]]))[0, 0]
    weight[1] = state  # the largest of those that are possible
    weight[vocab // 2 :] = -3e38 * state.sign()
    halved = decoder.extend([Extension(CachedSequence(decoder.pool), [3])])
    assert halved.logits[0, vocab // 2 :].eq(-torch.inf).all()
    assert int(halved.greedy) == 1
    expected = halved.logits.double().logsumexp(-1).float()
    assert torch.allclose(halved.log_total, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("vocab", [99, 4097, 13_000])
def test_one_logit_that_is_no_number_is_seen(vocab: int) -> None:
    model = random_model(replace(PLAIN, vocab_size=vocab))
    assert model.lm_head is not None
    decoder = NativeDecoder(model, torch.float32, 32)
    with torch.no_grad():
        model.lm_head.weight[vocab - 1] = torch.nan
    found = decoder.extend([Extension(CachedSequence(decoder.pool), [3])])
    assert int(found.logits.isnan().sum()) == 1
    assert found.log_total.isnan().all()


@pytest.mark.parametrize("cache", ["whole", "8-bit"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_so_and_with_its_own_text(dtype: torch.dtype, cache: str) -> None:
    model = quantize_model(
        random_model(replace(PLAIN, feed_forward=FeedForward(192))),
        4,
        32,
        ["layers.*_proj"],
        scale_dtype=dtype,
    )
    with torch.no_grad():
        model.embed_tokens.weight[98] = torch.inf
    prompt = [token % 98 for token in ids(20)]
    for decoder in (NativeDecoder(model, dtype, 48, cache), TorchDecoder(model, dtype, 48)):  # type: ignore[arg-type]
        [before, bad] = fresh(decoder, 2)
        expected = extend(decoder, [before], [prompt])
        assert extend(decoder, [bad], [[5, 98, 7, 8]]).isnan().all()
        before.release(), bad.release()
        # The blocks have held no numbers; a cache of three makes sure that they are written again.
        [again, other] = fresh(decoder, 2)
        assert extend(decoder, [other], [[5]]).isfinite().all()
        assert torch.equal(extend(decoder, [again], [prompt]), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_may_be_huge(dtype: torch.dtype) -> None:
    model = random_model(replace(PLAIN, head_dim=24, num_layers=1))
    with torch.no_grad():
        for projection in (model.layers[0].self_attn.q_proj, model.layers[0].self_attn.k_proj):
            projection.weight.mul_(3e4)
    ours, theirs = (
        extend(decoder := kind(model, dtype, 64), fresh(decoder, 1), [ids(40)], True)
        for kind in (NativeDecoder, TorchDecoder)
    )
    assert ours.isfinite().all()
    assert close(ours[:1], theirs[:1], dtype)


@pytest.mark.parametrize("size", [2**31, 2**32 + 1])
def test_a_window_larger_than_the_context_is_none(size: int) -> None:
    models = [random_model(replace(PLAIN, window=window)) for window in (None, Window(size))]
    with_it, without = (
        extend(decoder := NativeDecoder(model, torch.float32, 64), fresh(decoder, 1), [ids(40)], True)
        for model in models
    )
    assert torch.equal(with_it, without)


@pytest.mark.parametrize("token", [99, 10**9, -1])
def test_tokens_outside_of_the_vocabulary_are_refused(token: int) -> None:
    decoder = NativeDecoder(random_model(PLAIN), torch.float32, 32)
    with pytest.raises(CamelidError, match="from 0 to 98"):
        extend(decoder, fresh(decoder, 1), [[3, token]])


def test_a_draft_may_answer_by_itself_at_the_same_time(
    tokenizer: Tokenizer, tiny: Callable[..., Transformer]
) -> None:
    draft = Engine(tiny(), tokenizer)
    engines = [
        Engine(tiny(seed=1), tokenizer, draft=draft),
        Engine(tiny(seed=2), tokenizer, draft=draft),
        draft,
    ]
    prompts = ["the cat", "a dog sat on", "one two three and then the cat ran"]
    expected = [engine.generate(prompts, max_new_tokens=40) for engine in engines]
    with ThreadPoolExecutor() as pool:
        for _ in range(4):
            assert list(pool.map(lambda each: each.generate(prompts, max_new_tokens=40), engines)) == expected
