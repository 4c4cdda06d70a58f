"""The decoder in C against the Transformer's own forward pass."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from native_models import NEEDS_COMPILER, PLAIN, SPECS, close, extend, fresh, ids, random_model

from camelid.base.errors import CamelidError
from camelid.engine.decoder import TorchDecoder
from camelid.engine.engine import Engine
from camelid.engine.native.decoder import NativeDecoder, supports
from camelid.model.spec import FeedForward, ModelSpec
from camelid.model.transformer import Transformer
from camelid.quant.packed import PackedLinear
from camelid.quant.quantize import quantize_model
from camelid.text.tokenizer import Tokenizer

pytestmark = NEEDS_COMPILER


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_ragged_prefill_and_decode(spec: ModelSpec, dtype: torch.dtype) -> None:
    model = random_model(spec)
    assert supports(model, dtype)
    # Between them, the row counts take every path of the product: 1, 2, 3, 4, 8, 16 and more rows.
    for lengths in ([1], [1, 1], [2, 1], [5, 9, 1, 2], [17, 3], [40]):
        decoders = [kind(model, dtype, 256) for kind in (NativeDecoder, TorchDecoder)]
        sequences = [fresh(decoder, len(lengths)) for decoder in decoders]
        prompts = [ids(length, seed) for seed, length in enumerate(lengths)]
        for every in (False, True, False):
            ours, theirs = (
                extend(decoder, own, prompts, every) for decoder, own in zip(decoders, sequences, strict=True)
            )
            assert ours.dtype == torch.float32
            assert close(ours, theirs, dtype)
            prompts = [[prompt[-1]] for prompt in prompts]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("bits", "group"), [(4, 32), (4, 64), (4, 8), (4, -1), (8, None), (8, 16), (3, 32), (2, 32)]
)
@pytest.mark.parametrize("name", ["plain", "biases"])
def test_packed_weights(name: str, bits: int, group: int | None, dtype: torch.dtype) -> None:
    spec = replace(SPECS[name], feed_forward=FeedForward(192))
    selector = ["layers.*_proj", "!layers.1.mlp.*"]
    model = quantize_model(random_model(spec), bits, group, selector, scale_dtype=dtype)  # type: ignore[arg-type]
    assert supports(model, dtype)
    prompts = [ids(9), ids(2, 1), ids(25, 2)]
    for tokens in (prompts, [prompt[:1] for prompt in prompts], prompts[:1], [prompts[1][:1]]):
        # Beside the exact product of the dequantised weights: in bfloat16, activations are rounded to 8 bits.
        ours, exact = (
            extend(decoder := kind(model, own, 96), fresh(decoder, len(tokens)), tokens, True)
            for kind, own in ((NativeDecoder, dtype), (TorchDecoder, torch.float32))
        )
        assert (ours - exact).abs().max() <= (2e-5 if dtype == torch.float32 else 7e-2) * exact.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3, 20])
def test_equal_zero_points_are_not_read_again(rows: int, dtype: torch.dtype) -> None:
    """The same weights, once with all zero points equal; one other at the end of a linear makes them all be
    read."""
    logits = []
    for last in (None, 3):
        model = quantize_model(random_model(PLAIN), 4, 32, scale_dtype=dtype)
        for module in model.modules():
            if isinstance(module, PackedLinear):
                module.zeros.fill_(8)
                module.scales[-1, -1] = 0.0  # so that this group's zero point says nothing
                if last is not None:
                    module.zeros[-1, -1] = last
        decoder = NativeDecoder(model, dtype, 96)
        logits.append(extend(decoder, fresh(decoder, 1), [ids(rows)], True))
        exact = TorchDecoder(model, torch.float32, 96)
        expected = extend(exact, fresh(exact, 1), [ids(rows)], True)
        assert (logits[-1] - expected).abs().max() <= (
            2e-5 if dtype == torch.float32 else 7e-2
        ) * expected.abs().max()
    assert torch.equal(*logits)


def test_logits_are_those_of_the_uncached_model() -> None:
    model, tokens = random_model(PLAIN), ids(100)
    decoder = NativeDecoder(model, torch.float32, 112)
    sequence = fresh(decoder, 1)
    stepwise = torch.cat(
        [extend(decoder, sequence, [tokens[:60]], True), extend(decoder, sequence, [tokens[60:]], True)]
    )
    with torch.no_grad():
        assert close(stepwise, model(torch.tensor([tokens]))[0], torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [None, 4, 8])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_a_row_is_the_same_bits_whatever_is_in_the_batch(
    spec: ModelSpec, bits: int | None, dtype: torch.dtype
) -> None:
    model, tokens = random_model(spec), ids(60)
    if bits is not None:
        if any(size % 8 for size in (spec.hidden_size, spec.feed_forward.width, spec.head_dim)):
            pytest.skip("sizes that cannot be packed")
        quantize_model(model, bits, scale_dtype=dtype)  # type: ignore[arg-type]
    decoder = NativeDecoder(model, dtype, 512)
    [whole] = fresh(decoder, 1)
    expected = extend(decoder, [whole], [tokens], True)
    [pieces] = fresh(decoder, 1)
    found = []
    for begin, end in ((0, 1), (1, 3), (3, 20), (20, 21), (21, 60)):
        others = [ids(5, seed) for seed in range(begin % 4)]
        logits = extend(decoder, [*fresh(decoder, len(others)), pieces], [*others, tokens[begin:end]], True)
        found.append(logits[5 * len(others) :])
    assert torch.equal(torch.cat(found), expected)


def test_shared_blocks_are_the_same_bits() -> None:
    model, tokens = random_model(PLAIN), ids(60)
    decoder = NativeDecoder(model, torch.bfloat16, 512)
    [whole] = fresh(decoder, 1)
    expected = extend(decoder, [whole], [tokens], True)
    sequence, rest = decoder.begin(tokens)
    assert len(sequence) == 48
    assert torch.equal(extend(decoder, [sequence], [list(rest)], True), expected[48:])


def test_prompts_longer_than_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = random_model(PLAIN), ids(100)
    decoder = NativeDecoder(model, torch.float32, 256)
    whole = extend(decoder, fresh(decoder, 2), [tokens, tokens[:7]], True)
    monkeypatch.setattr("camelid.engine.native.decoder.CHUNK_ROWS", 13)
    assert torch.equal(extend(decoder, fresh(decoder, 2), [tokens, tokens[:7]], True), whole)


def test_an_8_bit_cache_is_close() -> None:
    model, tokens = random_model(PLAIN), ids(100)
    whole, small = (NativeDecoder(model, torch.float32, 256, cache) for cache in ("whole", "8-bit"))
    expected, found = (extend(each, fresh(each, 1), [tokens], True) for each in (whole, small))
    assert 0 < (found - expected).abs().max() <= 0.02 * expected.abs().max()
    [pieces] = fresh(small, 1)
    again = torch.cat([extend(small, [pieces], [tokens[i : i + 20]], True) for i in range(0, 100, 20)])
    assert torch.equal(again, found)
    assert small.cache.nbytes < 0.35 * whole.cache.nbytes


def test_forked_and_truncated_sequences() -> None:
    model, tokens = random_model(PLAIN), ids(30)
    decoder = NativeDecoder(model, torch.float32, 256)
    [sequence] = fresh(decoder, 1)
    extend(decoder, [sequence], [tokens])
    twin = sequence.fork(20)
    sequence.truncate(20)
    first, forked = (extend(decoder, [each], [tokens[20:]]) for each in (sequence, twin))
    assert torch.equal(first, forked)
    other = twin.fork(25)
    extend(decoder, [other], [ids(5, 3)])
    twin.truncate(25)
    sequence.truncate(25)
    assert torch.equal(*(extend(decoder, [each], [tokens[25:]]) for each in (sequence, twin)))
    with pytest.raises(CamelidError, match="holds 128 tokens and would need 130"):
        extend(decoder, [sequence], [ids(100)])


def test_any_number_of_threads_gives_the_same_bits() -> None:
    model = random_model(PLAIN)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3, 2, 5, 1):
            torch.set_num_threads(threads)
            decoder = NativeDecoder(model, torch.bfloat16, 120)
            results.append(extend(decoder, fresh(decoder, 3), [ids(20), ids(3), ids(9)], True))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


def test_what_it_does_not_know_goes_to_torch(tokenizer: Tokenizer, tiny: Callable[..., Transformer]) -> None:
    assert not supports(tiny(), torch.float64)
    assert not supports(tiny().to("meta"), torch.float32)
    assert isinstance(Engine(tiny(), tokenizer, native=False).decoder, TorchDecoder)
    assert isinstance(Engine(tiny(), tokenizer).decoder, NativeDecoder)
