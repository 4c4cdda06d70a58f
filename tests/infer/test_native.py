"""The decoder in C against the Transformer's own forward pass."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from camelid.errors import CamelidError
from camelid.infer import engine as engine_module
from camelid.infer.decoder import TorchDecoder
from camelid.infer.engine import Engine
from camelid.infer.native import build
from camelid.infer.native.decoder import NativeDecoder, supports
from camelid.model.spec import FeedForward, LinearScaling, ModelSpec, Norm, Rotary
from camelid.model.transformer import Transformer
from camelid.quant import quantize_model
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
    "six heads share": replace(PLAIN, num_heads=6, num_kv_heads=1, head_dim=8, norm=Norm(eps=1e-2)),
    "scaled positions": replace(
        PLAIN, positions=Rotary(1000.0, LinearScaling(4.0)), feed_forward=FeedForward(33)
    ),
}
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 4e-2}


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
        decoders = [kind(model, dtype, len(lengths), 48) for kind in (NativeDecoder, TorchDecoder)]
        prompts = [ids(length, seed) for seed, length in enumerate(lengths)]
        for every in (False, True, False):
            ours, theirs = (decoder.extend(0, prompts, every) for decoder in decoders)
            assert ours.dtype == torch.float32
            assert close(ours, theirs, dtype)
            prompts = [[prompt[-1]] for prompt in prompts]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, 64), (4, 8), (4, -1), (8, None), (8, 16)])
@pytest.mark.parametrize("name", ["plain", "biases"])
def test_packed_weights(name: str, bits: int, group: int | None, dtype: torch.dtype) -> None:
    spec = replace(SPECS[name], feed_forward=FeedForward(192))
    selector = ["layers.*_proj", "!layers.1.mlp.*"]
    model = quantize_model(random_model(spec), bits, group, selector, scale_dtype=dtype)  # type: ignore[arg-type]
    assert supports(model, dtype)
    prompts = [ids(9), ids(2, 1), ids(25, 2)]
    for lengths in (prompts, [prompt[:1] for prompt in prompts], prompts[:1], [prompts[1][:1]]):
        ours, theirs = (
            kind(model, dtype, 3, 48).extend(0, lengths, True) for kind in (NativeDecoder, TorchDecoder)
        )
        assert close(ours, theirs, dtype)


def test_logits_are_those_of_the_uncached_model() -> None:
    model, tokens = random_model(PLAIN), ids(100)
    decoder = NativeDecoder(model, torch.float32, 1, 100)
    stepwise = torch.cat(
        [decoder.extend(0, [tokens[:60]], every=True), decoder.extend(0, [tokens[60:]], every=True)]
    )
    with torch.no_grad():
        assert close(stepwise, model(torch.tensor([tokens]))[0], torch.float32)


def test_prompts_longer_than_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = random_model(PLAIN), ids(100)
    whole = NativeDecoder(model, torch.float32, 2, 128).extend(0, [tokens, tokens[:7]], every=True)
    monkeypatch.setattr("camelid.infer.native.decoder.CHUNK_ROWS", 13)
    chunked = NativeDecoder(model, torch.float32, 2, 128).extend(0, [tokens, tokens[:7]], every=True)
    assert close(chunked, whole, torch.float32)


def test_forked_and_truncated_slots() -> None:
    model, tokens = random_model(PLAIN), ids(30)
    decoder = NativeDecoder(model, torch.float32, 3, 40)
    decoder.extend(0, [tokens])
    decoder.fork(0, 2, 20)
    decoder.truncate(0, 20)
    assert decoder.lengths == [20, 0, 20]
    first, forked = decoder.extend(0, [tokens[20:]]), decoder.extend(2, [tokens[20:]])
    assert torch.equal(first, forked)
    with pytest.raises(CamelidError, match="holds 40 tokens and would need 41"):
        decoder.extend(0, [ids(11)])


def test_any_number_of_threads_gives_the_same_bits() -> None:
    model = random_model(PLAIN)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3, 2, 5, 1):
            torch.set_num_threads(threads)
            decoder = NativeDecoder(model, torch.bfloat16, 3, 40)
            results.append(decoder.extend(0, [ids(20), ids(3), ids(9)], every=True))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("vocab", [1, 15, 16, 99, 1000])
def test_summary_of_logits(vocab: int) -> None:
    decoder = NativeDecoder(random_model(PLAIN), torch.float32, 1, 8)
    logits = 20 * torch.randn(5, vocab, generator=torch.Generator().manual_seed(vocab))
    logits[1] = 3.0
    logits[2, vocab // 2 :] = -torch.inf
    if vocab == 1:
        logits[2] = 0.0
    greedy, log_totals = decoder.summarise(logits)
    assert greedy.tolist() == logits.numpy().argmax(1).tolist()
    assert torch.allclose(log_totals, logits.double().logsumexp(-1).float(), rtol=1e-5, atol=1e-5)


def test_what_it_does_not_know_goes_to_torch(tokenizer: Tokenizer, tiny: Callable[..., Transformer]) -> None:
    assert not supports(tiny(), torch.float64)
    assert not supports(tiny().to("meta"), torch.float32)
    assert isinstance(Engine(tiny(), tokenizer, native=False).decoder(1, 8), TorchDecoder)
    assert isinstance(Engine(tiny(), tokenizer).decoder(1, 8), NativeDecoder)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("CAMELID_HOME", str(tmp_path))
    build._loaded.cache_clear()
    engine_module._say_once.cache_clear()
    yield tmp_path
    build._loaded.cache_clear()


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler", None])
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


def test_the_library_is_compiled_once(no_library: Path) -> None:
    build.library()
    [compiled] = no_library.rglob("*.so")
    written = compiled.stat().st_mtime_ns
    build._loaded.cache_clear()
    build.library()
    assert [path.stat().st_mtime_ns for path in no_library.rglob("*")][-1:] == [written]
