"""The decoder on a GPU: steps of one token a sequence are recorded once as CUDA graphs and replayed.

At one row the GPU needs less time for a step than Python takes to launch its hundreds of kernels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from camelid.infer.decoder import Extension, Predictions, TorchDecoder, power_of_two
from camelid.model.cache import KeyValueCache
from camelid.model.layers import Context
from camelid.model.transformer import RunBlock, Transformer

MOST_ROWS = 64
"""More sequences than these keep the GPU busy enough; their steps are launched kernel by kernel."""
LEAST_WIDTH = 8
"""Blocks of the shortest recorded step."""
WARM_UP = 2
"""Steps before recording, in which libraries choose their kernels and take their workspace."""


class FixedStep:
    """One token for each of up to `rows` sequences of up to `width` blocks, between tensors that stay where they are.

    Rows that no sequence needs write into the block for padding.
    """

    def __init__(self, decoder: "GraphDecoder", rows: int, width: int) -> None:
        self.decoder = decoder
        # A row's token, its length and its blocks: what changes from step to step is one copy.
        self.inputs = torch.zeros(rows, 2 + width, dtype=torch.long, device=decoder.keys.device)
        self.unused = [0, 0, *[decoder.pool.count] * width]

    def __call__(self, extensions: Sequence[Extension]) -> Float[Tensor, "rows vocab"]:
        """Logits after each extension's one token."""
        rows, columns = self.inputs.shape
        filled = [
            [each.tokens[0], len(each.sequence), *each.sequence.blocks[: columns - 2]] for each in extensions
        ]
        padded = [row + self.unused[len(row) :] for row in filled]
        padded += [self.unused] * (rows - len(padded))
        self.inputs.copy_(torch.tensor(padded))
        return self.run()[: len(extensions)]

    def run(self) -> Float[Tensor, "rows vocab"]:
        """Computes what `inputs` ask for; on a GPU nothing in it waits for a result."""
        tokens, lengths, tables = self.inputs[:, :1], self.inputs[:, 1], self.inputs[:, 2:]
        decoder = self.decoder
        cache = KeyValueCache(decoder.keys, decoder.values, tables, lengths)
        hidden = decoder.model.hidden_states(tokens, cache=cache, dtype=decoder.dtype)
        return decoder.model.unembed(hidden[:, 0]).float()


class RecordedStep(FixedStep):
    """A `FixedStep` that is recorded as a CUDA graph when it first runs."""

    def __init__(self, decoder: "GraphDecoder", rows: int, width: int, memory: Any) -> None:
        super().__init__(decoder, rows, width)
        self.memory, self.graph = memory, torch.cuda.CUDAGraph()
        self.logits: Tensor | None = None

    def run(self) -> Float[Tensor, "rows vocab"]:
        """See `FixedStep.run`; the next call writes over the logits."""
        if self.logits is None:
            self._record()
        self.graph.replay()
        assert self.logits is not None
        return self.logits

    def _record(self) -> None:
        """Records; the steps before write what the step itself writes, to the same places."""
        device = self.inputs.device
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                super().run()
        torch.cuda.current_stream(device).wait_stream(side)
        with torch.cuda.graph(self.graph, pool=self.memory, stream=side):
            self.logits = super().run()


class GraphDecoder(TorchDecoder):
    """See `camelid.infer.decoder.Decoder`; prompts go through the model's own forward pass, steps are recorded.

    Rows and blocks of recorded steps grow by leaps, so that few serve all: powers of two, and `step_width`. compiled:
    torch.compile fuses the element-wise passes of a block, once, which takes the first steps some ten seconds. On a CPU
    the steps are computed as they would be recorded.
    """

    def __init__(
        self, model: Transformer, dtype: torch.dtype, tokens: int, *, compiled: bool = False
    ) -> None:
        super().__init__(model, dtype, tokens)
        self._steps: dict[tuple[int, int], FixedStep] = {}
        self._memory = torch.cuda.graph_pool_handle() if self.keys.is_cuda else None
        if compiled:
            model.run_block = CompiledSteps(model.run_block)

    def compute_together(self, extensions: Sequence[Extension]) -> Float[Tensor, "wanted vocab"]:
        """See `TorchDecoder.compute_together`."""
        is_step = all(len(each.tokens) == each.wanted == 1 for each in extensions)
        if not is_step or len(extensions) > MOST_ROWS:
            return super().compute_together(extensions)
        width = step_width(max(len(each.sequence.blocks) for each in extensions))
        # The next step writes over its logits, which a caller may still hold.
        return self._step(power_of_two(len(extensions)), width)(extensions).clone()

    def predictions(self, logits: Float[Tensor, "wanted vocab"]) -> Predictions:
        """See `TorchDecoder.predictions`; all but the logits come over in one copy, and the host waits for it alone."""
        _, greedy, highest, log_total = Predictions.of(logits)
        columns = torch.stack((greedy.int(), highest.view(torch.int32), log_total.view(torch.int32))).cpu()
        return Predictions(logits, columns[0], *columns[1:].view(torch.float32))

    def _step(self, rows: int, width: int) -> FixedStep:
        if (rows, width) not in self._steps:
            self._steps[rows, width] = (
                FixedStep(self, rows, width)
                if self._memory is None
                else RecordedStep(self, rows, width, self._memory)
            )
        return self._steps[rows, width]


def step_width(blocks: int) -> int:
    """Blocks of the recorded step that serves so many: 8, 12, 16, 24, 32, ..., since all of them are read at every step."""
    return max(LEAST_WIDTH, min(power_of_two(blocks), 3 * power_of_two(-(-blocks // 3))))


class CompiledSteps:
    """Runs a block compiled for steps of one token a row, eagerly for prompts, whose lengths all differ."""

    def __init__(self, eager: RunBlock) -> None:
        self.eager, self.compiled = eager, torch.compile(eager)

    def __call__(self, block: nn.Module, x: Tensor, context: Context) -> Tensor:
        """The block's states."""
        run = self.compiled if x.shape[1] == 1 and context.cache is not None else self.eager
        return run(block, x, context)
