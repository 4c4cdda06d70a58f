"""The decoder on a GPU: steps of one token a sequence are recorded once as CUDA graphs and replayed.

At one row the GPU needs less time for a step than Python takes to launch its hundreds of kernels.
"""

import os
import shutil
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._triton import has_triton

from camelid.base.errors import CamelidError
from camelid.engine.decoder import Extension, Predictions, TorchDecoder, power_of_two
from camelid.model.attention import leave_out_cudnn
from camelid.model.cache import KeyValueCache
from camelid.model.layers import Context
from camelid.model.transformer import RunBlock, Transformer
from camelid.quant.packed import PackedLinear

MOST_ROWS = 64
"""More sequences than these keep the GPU busy enough; their steps are launched kernel by kernel."""
LEAST_WIDTH = 8
"""Blocks of the shortest recorded step."""
WARM_UP = 2
"""Steps before recording, in which libraries choose their kernels and take their workspace."""
MOST_SHAPES = 64
"""Kinds of blocks and shapes that are compiled; torch runs what exceeds its own limit of 8 eagerly, without a
word."""


class Recorder:
    """Records what the steps of one decoder launch.

    Graphs find room in each other's memory only where all are recorded on one stream.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.memory = torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """A graph of `work`, and what it gives, which every replay writes over.

        The runs before write what the graph itself writes, to the same places.
        """
        with torch.cuda.device(self.device):
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                for _ in range(WARM_UP):
                    work()
                graph = torch.cuda.CUDAGraph()
                # Other threads may allocate meanwhile.
                recording = torch.cuda.graph(
                    graph, pool=self.memory, stream=self.stream, capture_error_mode="thread_local"
                )
                try:
                    with recording:
                        result = work()
                except BaseException:
                    # To torch this memory may still be recorded into.
                    self.memory = torch.cuda.graph_pool_handle()
                    raise
            torch.cuda.current_stream().wait_stream(self.stream)
        return graph, result


class FixedStep:
    """One token for each of up to `rows` sequences of up to `width` blocks, between tensors that stay where
    they are.

    Rows that no sequence needs write into the block for padding.
    """

    def __init__(self, rows: int, width: int, padding: int, device: torch.device) -> None:
        # A row's token, its length and its blocks: what changes from step to step is one copy.
        self.inputs = torch.zeros(rows, 2 + width, dtype=torch.long, device=device)
        self.unused = [0, 0, *[padding] * width]
        self._recorded: tuple[torch.cuda.CUDAGraph, Tensor] | None = None

    def run(
        self, decoder: "GraphDecoder", extensions: Sequence[Extension]
    ) -> Float[Tensor, "extensions width"]:
        """Hidden states after each extension's one token; the next run may write over them."""
        rows, columns = self.inputs.shape
        filled = [
            [each.tokens[0], len(each.sequence), *each.sequence.blocks[: columns - 2]] for each in extensions
        ]
        padded = [row + self.unused[len(row) :] for row in filled]
        padded += [self.unused] * (rows - len(padded))
        # torch.tensor takes five times as long for nested lists.
        self.inputs.copy_(torch.from_numpy(np.array(padded, dtype=np.int64)))
        return self._hidden(decoder)[: len(extensions)]

    def _hidden(self, decoder: "GraphDecoder") -> Float[Tensor, "rows width"]:
        if decoder.recorder is None:
            return self._launch(decoder)
        if self._recorded is None:
            self._recorded = decoder.recorder.record(lambda: self._launch(decoder))
        graph, hidden = self._recorded
        graph.replay()
        return hidden

    def _launch(self, decoder: "GraphDecoder") -> Float[Tensor, "rows width"]:
        """Computes what `inputs` ask for; on a GPU nothing in it waits for a result."""
        tokens, lengths, tables = self.inputs[:, :1], self.inputs[:, 1], self.inputs[:, 2:]
        cache = KeyValueCache(decoder.keys, decoder.values, tables, lengths)
        return decoder.model.hidden_states(tokens, cache=cache, dtype=decoder.dtype)[:, 0]


class GraphDecoder(TorchDecoder):
    """Prompts go through the model's own forward pass, steps are
    recorded.

    Rows and blocks of recorded steps grow by leaps, so that few serve all: powers of two, and `step_width`.
    Logits are computed outside of the graphs, each of which would keep its own. compiled: torch.compile fuses
    the element-wise passes of a block, once, which takes the first steps some ten seconds; raises
    `CamelidError` where a GPU's kernels cannot be compiled. On a CPU the steps are computed as they would be
    recorded.
    """

    def __init__(
        self, model: Transformer, dtype: torch.dtype, tokens: int, *, compiled: bool = False
    ) -> None:
        super().__init__(model, dtype, tokens)
        if self.keys.is_cuda:
            leave_out_cudnn()
        self._begin()
        if compiled and not isinstance(model.run_block, CompiledSteps):
            if self.keys.is_cuda:
                check_compiler()
            model.run_block = CompiledSteps(model.run_block)
            self.model.run_block = model.run_block

    def load(self) -> None:
        """Recorded steps read weights from where they lay."""
        super().load()
        self._begin()

    def _begin(self) -> None:
        self._steps: dict[tuple[int, int], FixedStep] = {}
        self.recorder = Recorder(self.keys.device) if self.keys.is_cuda else None
        for module in self.model.modules():
            if isinstance(module, PackedLinear):
                module.arrange(self.dtype)  # here, since torch.compile would trace it

    def compute_together(self, extensions: Sequence[Extension]) -> Float[Tensor, "wanted vocab"]:
        is_step = all(len(each.tokens) == each.wanted == 1 for each in extensions)
        if not is_step or len(extensions) > MOST_ROWS:
            return super().compute_together(extensions)
        width = step_width(max(len(each.sequence.blocks) for each in extensions))
        hidden = self._step(power_of_two(len(extensions)), width).run(self, extensions)
        return self.model.unembed(hidden).float()

    def predictions(self, logits: Float[Tensor, "wanted vocab"]) -> Predictions:
        """All but the logits come over in one copy, and the host waits for it
        alone."""
        _, greedy, highest, log_total = Predictions.of(logits)
        columns = torch.stack((greedy.int(), highest.view(torch.int32), log_total.view(torch.int32))).cpu()
        return Predictions(logits, columns[0], *columns[1:].view(torch.float32))

    def _step(self, rows: int, width: int) -> FixedStep:
        if (rows, width) not in self._steps:
            self._steps[rows, width] = FixedStep(rows, width, self.pool.count, self.keys.device)
        return self._steps[rows, width]


def step_width(blocks: int) -> int:
    """Blocks of the recorded step that serves so many: 8, 12, 16, 24, 32, ..., since all of them are read at
    every step."""
    return max(LEAST_WIDTH, min(power_of_two(blocks), 3 * power_of_two(-(-blocks // 3))))


class CompiledSteps:
    """Runs a block compiled for steps of one token a row, eagerly for prompts, whose lengths all differ."""

    def __init__(self, eager: RunBlock) -> None:
        # With it products with one row read their weights at the memory's speed, and unpack them on the way.
        self.eager, self.compiled = eager, torch.compile(eager, options={"coordinate_descent_tuning": True})

    def __call__(self, block: nn.Module, x: Tensor, context: Context) -> Tensor:
        """The block's states."""
        if x.shape[1] != 1 or context.cache is None:
            return self.eager(block, x, context)
        # The limit is one for all models of a process, and a thread's own.
        with torch._dynamo.config.patch(recompile_limit=MOST_SHAPES):
            return self.compiled(block, x, context)


def check_compiler() -> None:
    """Raises `CamelidError` where torch.compile could make no kernels for a GPU."""
    if not has_triton():
        raise CamelidError(
            "compiled=True: torch.compile needs Triton and a GPU of compute capability 7.0 or newer; "
            "pip install triton, or leave compiled off"
        )
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        raise CamelidError(
            "compiled=True: Triton needs a C compiler and finds neither gcc nor clang; install one, "
            "point CC to one, or leave compiled off"
        )
