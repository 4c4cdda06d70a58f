"""Recording steps as CUDA graphs and compiling them, as far as it shows without a GPU."""

import gc
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import ClassVar

import pytest
import torch
from torch._inductor.utils import run_and_get_code

from camelid.base.errors import CamelidError
from camelid.engine import graphs
from camelid.engine.blocks import BLOCK_TOKENS
from camelid.engine.decoder import Extension
from camelid.engine.engine import Engine
from camelid.engine.graphs import CompiledSteps, FixedStep, GraphDecoder, Recorder
from camelid.model.transformer import Transformer
from camelid.quant.packed import PackedLinear
from camelid.quant.quantize import quantize_model
from camelid.text.tokenizer import Tokenizer

Tiny = Callable[..., Transformer]
PROMPTS = ["the cat", "one two three dogs ran over", "a", "and then it sat on the mat; ümläut", "the cat"]


class FakeGraph:
    """What torch.cuda gives of a graph without a GPU: `work` runs once when it is recorded; a replay only
    counts."""

    made: ClassVar[list["FakeGraph"]] = []

    def __init__(self) -> None:
        self.replays = 0
        self.made.append(self)

    def replay(self) -> None:
        self.replays += 1


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """With what each recording begins; streams and pools are numbers."""
    begun: list[dict[str, object]] = []
    numbers = iter(range(100))
    monkeypatch.setattr(FakeGraph, "made", [])

    @contextmanager
    def graph(graph: FakeGraph, **settings: object) -> Iterator[None]:
        assert graph.replays == 0
        begun.append(settings)
        yield

    class Stream:
        def __init__(self, device: object = None) -> None:
            self.number = next(numbers)

        def wait_stream(self, other: object) -> None: ...

    for name, fake in {
        "Stream": Stream,
        "current_stream": Stream,
        "device": lambda _: nullcontext(),
        "stream": lambda _: nullcontext(),
        "graph_pool_handle": lambda: next(numbers),
        "CUDAGraph": FakeGraph,
        "graph": graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return begun


def test_a_recording_that_fails_does_not_end_the_decoder(
    tiny: Tiny, recorded: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = GraphDecoder(tiny(), torch.float32, 64 * BLOCK_TOKENS)
    decoder.recorder = Recorder(torch.device("cpu"))
    sequence, rest = decoder.begin([5, 6, 7])
    decoder.extend([Extension(sequence, rest)])
    launch, launches = FixedStep._launch, iter(range(100))

    def failing(step: FixedStep, decoder: GraphDecoder) -> torch.Tensor:
        if next(launches) == graphs.WARM_UP:
            raise torch.OutOfMemoryError
        return launch(step, decoder)

    monkeypatch.setattr(FixedStep, "_launch", failing)
    with pytest.raises(torch.OutOfMemoryError):
        decoder.extend([Extension(sequence, [8])])
    logits = decoder.extend([Extension(sequence, [8])]).logits
    assert [graph.replays for graph in FakeGraph.made] == [0, 1]
    twin = sequence.fork(len(sequence))
    decoder.extend([Extension(sequence, [9]), Extension(twin, [9])])
    # All on one stream; what failed is recorded again, into memory that is not half recorded.
    assert len({each["stream"] for each in recorded}) == 1
    pools = [each["pool"] for each in recorded]
    assert pools[0] != pools[1] == pools[2]
    assert [graph.replays for graph in FakeGraph.made] == [0, 1, 1]
    expected = decoder.model(torch.tensor([[5, 6, 7, 8]]))[:, -1]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_a_decoder_that_is_dropped_is_gone_at_once(tiny: Tiny) -> None:
    decoder = GraphDecoder(tiny(), torch.float32, 256)
    sequence, rest = decoder.begin([5])
    decoder.extend([Extension(sequence, rest)])
    assert decoder._steps
    memory = weakref.ref(decoder)
    gc.disable()
    try:
        del decoder, sequence
        assert memory() is None
    finally:
        gc.enable()


def test_what_torch_is_asked_to_compile(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def compiling(run: Callable[..., torch.Tensor], **settings: object) -> Callable[..., torch.Tensor]:
        asked.append(settings)

        def compiled(*args: object) -> torch.Tensor:
            asked.append(torch._dynamo.config.recompile_limit)
            return run(*args)

        return compiled

    monkeypatch.setattr(torch, "compile", compiling)
    model = quantize_model(tiny(), 4, 32)
    for _ in range(2):
        decoder = GraphDecoder(model, torch.bfloat16, 256, compiled=True)
    # Before anything is traced, all packed weights are arranged.
    assert all(module._arranged for module in model.modules() if isinstance(module, PackedLinear))
    sequence, rest = decoder.begin([5, 6])
    decoder.extend([Extension(sequence, rest)])
    # A thread has limits of its own.
    worker = threading.Thread(target=decoder.extend, args=([Extension(sequence, [7])],))
    worker.start()
    worker.join()
    assert asked == [{"options": {"coordinate_descent_tuning": True}}, *[graphs.MOST_SHAPES] * 2]


def test_compiling_for_a_gpu_needs_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "has_triton", lambda: False)
    with pytest.raises(
        CamelidError, match=r"compiled=True: torch.compile needs Triton .* or leave compiled off"
    ):
        graphs.check_compiler()
    monkeypatch.setattr(graphs, "has_triton", lambda: True)
    monkeypatch.setenv("CC", "mycc")
    graphs.check_compiler()
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CamelidError, match="finds neither gcc nor clang; install one, point CC to one"):
        graphs.check_compiler()


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_compiled_steps_say_the_same(tiny: Tiny, tokenizer: Tokenizer, packed: bool) -> None:
    model = quantize_model(tiny(), 4, 32) if packed else tiny()
    plain = Engine(model, tokenizer, native=False)
    expected = plain.generate(PROMPTS, max_new_tokens=20)
    ours = Engine(model, tokenizer)
    ours.decoder = GraphDecoder(model, ours.dtype, 64 * BLOCK_TOKENS, compiled=True)
    assert isinstance(model.run_block, CompiledSteps)
    for [theirs], [mine] in zip(expected, ours.generate(PROMPTS, max_new_tokens=20), strict=True):
        assert mine.tokens == theirs.tokens
        assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-3)


@pytest.mark.slow
def test_compiled_steps_copy_no_layer_of_the_cache(tiny: Tiny) -> None:
    torch.compiler.reset()
    decoder = GraphDecoder(tiny(), torch.float32, 777 * BLOCK_TOKENS, compiled=True)
    sequence, rest = decoder.begin([5, 6, 7])
    decoder.extend([Extension(sequence, rest)])
    _, codes = run_and_get_code(decoder.extend, [Extension(sequence, [8])])
    assert codes
    # Blocks of a layer are an argument, with the one for padding; no buffer is as large.
    assert any("778" in code for code in codes)
    assert not [each for code in codes for each in re.findall(r"empty_strided\w*\(\(778, .*", code)]
