"""The decoder in C against the Transformer's own forward pass."""

import math
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from camelid.errors import CamelidError
from camelid.infer import engine as engine_module
from camelid.infer.blocks import CachedSequence
from camelid.infer.decoder import Decoder, Extension, TorchDecoder
from camelid.infer.engine import Engine
from camelid.infer.native import build
from camelid.infer.native.decoder import NativeDecoder, supports
from camelid.model.spec import FeedForward, LinearScaling, ModelSpec, Norm, Rotary, Window
from camelid.model.transformer import Transformer
from camelid.quant import quantize_model
from camelid.quant.packed import PackedLinear
from camelid.text.tokenizer import Tokenizer

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler: torch computes alone here"
)

PLAIN = ModelSpec(
    vocab_size=99,
    hidden_size=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    context_length=128,
    feed_forward=FeedForward(96),
)
SPECS = {
    "plain": PLAIN,
    "tied, one key-value head": replace(PLAIN, tie_embeddings=True, num_kv_heads=1),
    "biases": replace(PLAIN, attention_bias="all", feed_forward=replace(PLAIN.feed_forward, bias=True)),
    "sizes that fill no vector": replace(PLAIN, hidden_size=37, head_dim=10, feed_forward=FeedForward(71)),
    "heads that do not share": replace(PLAIN, num_heads=5, num_kv_heads=5, head_dim=34),
    "norms of queries and keys, windows": replace(PLAIN, query_key_norm=True, window=Window(7, (1,))),
    "many heads share": replace(PLAIN, num_heads=20, num_kv_heads=1, head_dim=8),
    "six heads share": replace(PLAIN, num_heads=6, num_kv_heads=1, head_dim=8, norm=Norm(eps=1e-2)),
    "scaled positions": replace(
        PLAIN, positions=Rotary(1000.0, LinearScaling(4.0)), feed_forward=FeedForward(33)
    ),
}
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 4e-2}


def extend(
    decoder: Decoder, sequences: list[CachedSequence], tokens: list[list[int]], every: bool = False
) -> torch.Tensor:
    return decoder.extend(
        [
            Extension(sequence, ids, len(ids) if every else 1)
            for sequence, ids in zip(sequences, tokens, strict=True)
        ]
    ).logits


def fresh(decoder: Decoder, count: int) -> list[CachedSequence]:
    return [CachedSequence(decoder.pool) for _ in range(count)]


def random_model(spec: ModelSpec) -> Transformer:
    model = Transformer(spec).initialize(1, std=0.15).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(
                    torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)), alpha=0.3
                )
    return model


def ids(count: int, seed: int = 0) -> list[int]:
    return torch.randint(0, 99, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def close(ours: torch.Tensor, theirs: torch.Tensor, dtype: torch.dtype) -> bool:
    return bool((ours - theirs).abs().max() <= TOLERANCE[dtype] * theirs.abs().max())


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
    """The same weights, once with all zero points equal; one other at the end of a linear makes them all be read."""
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
    monkeypatch.setattr("camelid.infer.native.decoder.CHUNK_ROWS", 13)
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


def test_what_it_does_not_know_goes_to_torch(tokenizer: Tokenizer, tiny: Callable[..., Transformer]) -> None:
    assert not supports(tiny(), torch.float64)
    assert not supports(tiny().to("meta"), torch.float32)
    assert isinstance(Engine(tiny(), tokenizer, native=False).decoder, TorchDecoder)
    assert isinstance(Engine(tiny(), tokenizer).decoder, NativeDecoder)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("CAMELID_HOME", str(tmp_path))
    build._loaded.cache_clear()
    engine_module._say_once.cache_clear()
    yield tmp_path
    build._loaded.cache_clear()


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler", "'cc", None])
def test_without_a_compiler_torch_computes_and_it_is_said_once(
    compiler: str | None,
    no_library: Path,
    tokenizer: Tokenizer,
    tiny: Callable[..., Transformer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if compiler is None:
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", str(no_library))
    else:
        monkeypatch.setenv("CC", compiler)
    engine = Engine(tiny(), tokenizer)
    answers = [engine.generate(["the cat"], max_new_tokens=5) for _ in range(2)]
    assert answers[0] == answers[1]
    assert capsys.readouterr().err.count("a third of the speed") == 1
    assert not list(no_library.rglob("*.so"))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86 processors")
@pytest.mark.parametrize("lacking", ["amx-int8", "amx-bf16", "avx512vnni", "avx512bf16", "avx512f"])
def test_processors_that_can_do_less(lacking: str, no_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(PLAIN, feed_forward=FeedForward(160))
    _, *packed = models = [random_model(spec) for _ in range(3)]
    for model, bits in zip(packed, (4, 8), strict=True):
        quantize_model(model, bits, 32, scale_dtype=torch.bfloat16)  # type: ignore[arg-type]

    def logits(model: Transformer, kind: type[Decoder], dtype: torch.dtype) -> torch.Tensor:
        decoder = kind(model, dtype, 144)
        return extend(decoder, fresh(decoder, 3), [ids(70), ids(9, 1), ids(1, 2)], True)

    here = [logits(model, NativeDecoder, torch.bfloat16) for model in models]
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, f"-mno-{lacking}"))
    build._loaded.cache_clear()
    for model, same in zip(models, here, strict=True):
        exact = logits(model, TorchDecoder, torch.float32)
        assert close(logits(model, NativeDecoder, torch.float32), exact, torch.float32)
        ours = logits(model, NativeDecoder, torch.bfloat16)
        assert (ours - exact).abs().max() <= 7e-2 * exact.abs().max()
        if lacking == "amx-int8":  # the same integers, however they are summed
            assert torch.equal(ours, same)
    assert len(list(no_library.rglob("*.so"))) == 2


@pytest.mark.skipif(shutil.which("clang") is None, reason="clang is not installed")
def test_clang_compiles_it_too(no_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(PLAIN)
    exact = extend(decoder := TorchDecoder(model, torch.float32, 64), fresh(decoder, 1), [ids(40)], True)
    monkeypatch.setenv("CC", "clang")
    ours = extend(decoder := NativeDecoder(model, torch.float32, 64), fresh(decoder, 1), [ids(40)], True)
    assert close(ours, exact, torch.float32)


def test_arguments_of_builtins_are_constants() -> None:
    """As clang wants them, which a machine without it cannot tell."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in build.SOURCES)
    calls = re.findall(r"__builtin_prefetch\((.*?)\)[,;]", code)
    assert len(calls) > 10
    assert not [call for call in calls if re.search(r", [^,]*\?[^,]*$", call)]


@pytest.mark.parametrize("damage", [b"", b"no library"])
def test_a_damaged_library_is_compiled_anew(no_library: Path, damage: bytes) -> None:
    build.library()
    [compiled] = no_library.rglob("*.so")
    compiled.unlink()
    compiled.write_bytes(damage)
    build._loaded.cache_clear()
    assert build.library().camelid_integers() in (0, 1)


def test_the_library_is_compiled_once(no_library: Path) -> None:
    build.library()
    [compiled] = no_library.rglob("*.so")
    written = compiled.stat().st_mtime_ns
    build._loaded.cache_clear()
    build.library()
    assert [path.stat().st_mtime_ns for path in no_library.rglob("*")][-1:] == [written]
