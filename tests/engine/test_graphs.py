"""The decoder for GPUs: its steps against the plain decoder, and what can be known of a GPU without one."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from camelid.base.errors import CamelidError, WrongCall
from camelid.engine.blocks import BLOCK_TOKENS, CachedSequence
from camelid.engine.decoder import Extension, TorchDecoder, power_of_two
from camelid.engine.device import choose_device
from camelid.engine.engine import Engine
from camelid.engine.graphs import MOST_ROWS, GraphDecoder, step_width
from camelid.model.cache import KeyValueCache
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.quant import kernels
from camelid.quant.packed import PackedLinear, pack
from camelid.quant.quantize import quantize_head, quantize_model
from camelid.quant.round_to_nearest import round_to_nearest
from camelid.text.tokenizer import Tokenizer

Tiny = Callable[..., Transformer]
HAS_GPU = torch.cuda.is_available()  # before the tests' own fixture hides it
ON_GPU = pytest.mark.skipif(not HAS_GPU, reason="no GPU that torch can use")
PROMPTS = ["the cat", "one two three dogs ran over", "a", "and then it sat on the mat; ümläut", "the cat"]


def with_decoder(engine: Engine) -> Engine:
    """The engine with the decoder that it has on a GPU."""
    engine.decoder = GraphDecoder(engine.model, engine.dtype, 64 * BLOCK_TOKENS)
    return engine


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True, "num_kv_heads": 1}, {"num_kv_heads": 4}])
def test_texts_are_those_of_the_plain_decoder(
    tiny: Tiny, tokenizer: Tokenizer, changes: dict[str, object]
) -> None:
    plain = Engine(tiny(**changes), tokenizer, native=False, max_batch=3)
    ours = with_decoder(Engine(tiny(**changes), tokenizer, max_batch=3))
    expected = plain.generate(PROMPTS, max_new_tokens=40)
    for [theirs], [mine] in zip(expected, ours.generate(PROMPTS, max_new_tokens=40), strict=True):
        assert mine.tokens == theirs.tokens
        assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
    drawn = [
        engine.generate(PROMPTS, max_new_tokens=20, temperature=1.0, seed=3)[1][0].tokens
        for engine in (plain, ours)
    ]
    assert drawn[0] == drawn[1]
    # Three rows are computed as four, six blocks as eight.
    assert {(2, 8), (4, 8)} <= set(ours.decoder._steps) <= {(1, 8), (2, 8), (4, 8)}  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [1, 5, MOST_ROWS, MOST_ROWS + 1])
def test_rows_that_share_blocks_of_unlike_lengths(tiny: Tiny, count: int) -> None:
    model = tiny(context_length=512)
    logits = []
    for kind in (TorchDecoder, GraphDecoder):
        decoder = kind(model, torch.float32, 4096)
        first, rest = decoder.begin([*range(20, 220)])
        decoder.extend([Extension(first, rest)])
        rows = [first.fork(1 + 199 * index // count) for index in range(count)]
        steps = [decoder.extend([Extension(row, [7]) for row in rows]).logits for _ in range(3)]
        logits.append(torch.stack(steps))
    assert (logits[0] - logits[1]).abs().max() <= 2e-5 * logits[0].abs().max()


def test_logits_stay_when_the_next_step_is_computed(tiny: Tiny) -> None:
    decoder = GraphDecoder(tiny(), torch.float32, 256)
    sequence, rest = decoder.begin([5, 6, 7])
    decoder.extend([Extension(sequence, rest)])
    held = decoder.extend([Extension(sequence, [8])]).logits
    before = held.clone()
    decoder.extend([Extension(sequence, [9])])
    assert torch.equal(held, before)


def test_predictions_are_exact(tiny: Tiny) -> None:
    logits = torch.randn(5, 300_000)
    found = GraphDecoder(tiny(), torch.float32, 16).predictions(logits)
    assert found.greedy.tolist() == logits.argmax(1).tolist()
    assert torch.equal(found.highest, logits.amax(1))
    assert torch.equal(found.log_total, logits.logsumexp(1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("group", [64, 192])
def test_8_bits_on_a_gpu_are_the_dequantised_product(dtype: torch.dtype, group: int) -> None:
    weight = round_to_nearest(torch.randn(24, 192), 8, group, dtype)
    form, gpu = pack(weight).form, torch.device("cuda", 0)
    kernel = kernels.kernel_for(form, dtype, gpu)
    assert isinstance(kernel, kernels.Int8OnCUDA)
    for rows in (1, 500):
        x = 1000 * torch.randn(rows, 192, dtype=dtype)  # sums of unscaled codes would leave float16
        product = kernel.product(x, *kernel.arrange(weight, dtype), group)
        assert torch.equal(product, torch.nn.functional.linear(x, weight.dequantize(dtype)))
    assert kernels.kernel_for(replace(form, symmetric=False), dtype, gpu) is None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels for GPUs that are asked for a product, in order.

    torch's meta device stands for a GPU: it checks shapes, dtypes and devices, and has no values that could
    be asked for.
    """
    names: list[str] = []
    monkeypatch.setattr(GraphDecoder, "predictions", TorchDecoder.predictions)  # nothing can be brought over
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setitem(kernels.KERNELS, "meta", kernels.KERNELS["cuda"])

    def int4(x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, group_size: int) -> torch.Tensor:
        """What torch's kernel checks (aten/src/ATen/native/cuda/int4mm.cu), whose own meta function asks for
        more."""
        names.append("Int4OnCUDA")
        tiles, outputs = 2 * codes.shape[3], 8 * codes.shape[0]
        assert (x.dtype, codes.dtype, scales.dtype) == (torch.bfloat16, torch.int32, torch.bfloat16)
        assert codes.shape[1:3] == (x.shape[1] // (16 * tiles), 32)
        assert scales.shape == (x.shape[1] // group_size, outputs, 2)
        assert all(each.is_contiguous() for each in (x, codes))
        return x.new_empty(len(x), outputs)

    def int8(x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, group_size: int) -> torch.Tensor:
        names.append("Int8OnCUDA")
        return torch.nn.functional.linear(x, (codes * scales).flatten(1))

    for kernel, product in zip(kernels.KERNELS["cuda"], (int4, int8), strict=True):
        monkeypatch.setattr(kernel, "product", product)
    return names


@pytest.mark.parametrize("packed", [False, True])
def test_a_step_stays_on_the_gpu_and_never_waits(packed: bool, asked: list[str]) -> None:
    """A graph records neither a result that the host asks for nor a tensor that lies elsewhere: both raise
    here."""
    spec = ModelSpec.llama(vocab_size=320, hidden_size=64, num_layers=2, num_heads=4, num_kv_heads=2)
    model = Transformer(spec).initialize(0).bfloat16().eval()
    if packed:
        model = quantize_head(quantize_model(model, 4, 32))
    for module in model.modules():
        if isinstance(module, PackedLinear):
            module.form  # noqa: B018 - looks at the zero points, which have values here alone
    decoder = GraphDecoder(model.to("meta"), torch.bfloat16, 64 * BLOCK_TOKENS)
    sequences = [CachedSequence(decoder.pool) for _ in range(3)]
    prompts = [[*range(1, length)] for length in (9, 40, 300)]
    logits = decoder.extend([Extension(*pair) for pair in zip(sequences, prompts, strict=True)]).logits
    assert (logits.device.type, logits.dtype, logits.shape) == ("meta", torch.float32, (3, 320))
    # Each of the three goes by itself, since their lengths are far apart; for 299 rows layers are
    # dequantised.
    step = [*["Int4OnCUDA"] * 14, "Int8OnCUDA"] if packed else []
    assert asked == [*step, *step, *step[-1:]]
    asked.clear()
    logits = decoder.extend([Extension(sequence, [1]) for sequence in sequences]).logits
    assert (logits.device.type, logits.dtype, logits.shape) == ("meta", torch.float32, (3, 320))
    assert asked == step


def test_what_a_graph_cannot_record_raises_on_the_meta_device() -> None:
    lengths = torch.ones(3, device="meta")
    with pytest.raises(RuntimeError, match="meta"):
        lengths.max().item()
    with pytest.raises(RuntimeError, match="meta"):
        lengths + torch.ones(3)


def test_codes_for_tensor_cores_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two neighbouring codes are one byte, the earlier in its upper half; w = (code - 8) * scale + offset."""
    given: list[tuple[torch.Tensor, int]] = []
    monkeypatch.setattr(torch.ops.aten, "_convert_weight_to_int4pack", lambda *args: given.append(args))
    weight = round_to_nearest(torch.randn(8, 192), 4, 64)
    _, pairs = kernels.Int4OnCUDA().arrange(weight, torch.float32)
    [(codes, tiles)] = given
    assert codes.is_contiguous()
    assert tiles == 4  # 192 inputs are three times 4 tiles of 16
    assert int(codes[3, 5]) == int(weight.codes[3, 10]) * 16 + int(weight.codes[3, 11])
    code, (scale, offset) = float(weight.codes[3, 130]), pairs[2, 3].tolist()
    assert (code - 8) * scale + offset == pytest.approx(float(weight.dequantize()[3, 130]), rel=1e-5)


def test_old_gpus_and_other_dtypes_dequantise(monkeypatch: pytest.MonkeyPatch) -> None:
    form, gpu = kernels.PackedForm(4, 64, 128, 32, False), torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert kernels.kernel_for(form, torch.bfloat16, gpu)
    assert kernels.kernel_for(form, torch.float32, gpu) is None
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert kernels.kernel_for(form, torch.bfloat16, gpu) is None
    assert kernels.kernel_for(form, torch.bfloat16, torch.device("meta")) is None


def test_names_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    torch.backends.cuda.enable_cudnn_sdp(True)
    assert choose_device("cpu") == torch.device("cpu")
    assert torch.backends.cuda.cudnn_sdp_enabled()
    assert choose_device() == choose_device("cuda") == torch.device("cuda", 0)
    assert not torch.backends.cuda.cudnn_sdp_enabled()  # see `leave_out_cudnn`
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(CamelidError, match="no device cuda:2; torch finds 2 GPUs"):
        choose_device("cuda:2")
    for name in ("gpu", "", "mps", "cuda:x"):
        with pytest.raises(WrongCall, match="cpu, cuda or cuda:N"):
            choose_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")


@pytest.mark.parametrize(("count", "power"), [(1, 1), (2, 2), (3, 4), (8, 8), (9, 16), (64, 64)])
def test_powers_of_two(count: int, power: int) -> None:
    assert power_of_two(count) == power


def test_recorded_widths_hold_what_they_serve_and_waste_a_third_at_most() -> None:
    widths = [step_width(blocks) for blocks in range(1, 300)]
    assert sorted(set(widths)) == [8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384]
    assert all(blocks <= width <= max(8, 1.5 * blocks) for blocks, width in enumerate(widths, 1))


def test_a_cache_that_is_full_says_so(tiny: Tiny) -> None:
    model = tiny()
    keys, values = torch.zeros(2, model.spec.num_layers, 1, 4, model.spec.num_kv_heads, model.spec.head_dim)
    tables, lengths = torch.zeros(2, 1, dtype=torch.long).split(1)
    cache = KeyValueCache(keys, values, tables, lengths[0])
    with pytest.raises(CamelidError, match="the cache holds 4 tokens and would need 5; make it larger"):
        model(torch.zeros(1, 5, dtype=torch.long), cache=cache)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return choose_device("cuda")


@ON_GPU
def test_a_gpu_says_what_the_cpu_says(tiny: Tiny, tokenizer: Tokenizer, gpu: torch.device) -> None:
    on_cpu = Engine(tiny(), tokenizer, native=False)
    expected = on_cpu.generate(PROMPTS, max_new_tokens=40)
    for compiled in (False, True):
        on_gpu = Engine(tiny().to(gpu), tokenizer, compiled=compiled)
        assert isinstance(on_gpu.decoder, GraphDecoder)
        for [theirs], [mine] in zip(expected, on_gpu.generate(PROMPTS, max_new_tokens=40), strict=True):
            assert mine.tokens == theirs.tokens
            assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-3)
        assert on_gpu.decoder._steps
        assert all(step._recorded is not None for step in on_gpu.decoder._steps.values())


@ON_GPU
@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, 64), (4, 256), (8, 256), (8, 64), (3, 32), (2, 32)])
@pytest.mark.parametrize("rows", [1, 7, 100, 500])
def test_a_gpus_packed_products(bits: int, group: int, rows: int, gpu: torch.device) -> None:
    weight = round_to_nearest(torch.randn(72, 256), bits, group, torch.bfloat16)  # type: ignore[arg-type]
    x = torch.randn(rows, 256).bfloat16()
    exact = x.double() @ weight.dequantize(torch.float64).T
    product = pack(weight).to(gpu)(x.to(gpu)).cpu()
    assert (product.double() - exact).abs().max() < 2e-2 * exact.abs().max()
