"""What the engine needs of a model: sequences in a cache, many extended in one pass.

sequence, rest = decoder.begin(prompt)
predictions = decoder.extend([Extension(sequence, rest)])
"""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from camelid.base.cores import adapt_cores
from camelid.base.errors import CamelidError
from camelid.engine.blocks import BLOCK_TOKENS, BlockPool, CachedSequence
from camelid.engine.weights import WeightWatch, in_evaluation
from camelid.model.cache import KeyValueCache
from camelid.model.layers import Source
from camelid.model.transformer import Transformer
from camelid.quant.packed import PackedLinear

KEPT_CONTEXTS = 4
"""Whole contexts of blocks that nobody uses are kept for prompts that begin alike."""

NOT_FINITE = (
    "the model's logits are not finite: its weights or activations overflow in this dtype (--dtype float32?)"
)


@dataclass(frozen=True)
class Extension:
    """Tokens that follow those of a sequence; logits are wanted after the last `wanted` of them."""

    sequence: CachedSequence
    tokens: Sequence[int]
    wanted: int = 1


Top = tuple[tuple[int, float], ...]
"""The most probable tokens of one place with their log-probabilities."""


class Predictions(NamedTuple):
    """The logits after each of some tokens, and what was computed from them."""

    logits: Float[Tensor, "wanted vocab"]
    """In float32."""
    greedy: Int[Tensor, " wanted"]
    """The index of the largest."""
    highest: Float[Tensor, " wanted"]
    """That logit."""
    log_total: Float[Tensor, " wanted"]
    """The log of the sum of exponentials: a logit minus this is a log-probability."""

    @classmethod
    def of(cls, logits: Float[Tensor, "wanted vocab"]) -> Self:
        """Those of float32 logits."""
        highest, greedy = logits.max(-1)
        return cls(logits, greedy, highest, logits.logsumexp(-1))

    def top(self, row: int, count: int) -> Top:
        """The `count` most probable tokens after a row, with their log-probabilities, most probable first."""
        logits, tokens = self.logits[row].topk(min(count, self.logits.shape[-1]))
        logprobs = logits - self.log_total[row].to(logits.device)
        return tuple(zip(tokens.tolist(), logprobs.tolist(), strict=True))

    def logprobs(self, tokens: Sequence[int]) -> tuple[Float[Tensor, " wanted"], bool]:
        """Of one token after each row, and whether all of them are the most probable ones."""
        columns = torch.tensor(tokens, device=self.logits.device)[:, None]
        own = self.logits.gather(1, columns)[:, 0].to(self.highest.device)
        return own - self.log_total, bool((own == self.highest).all())


def check_finite(log_totals: Iterable[float]) -> None:
    """Raises `CamelidError` if one of the rows has logits that are infinite or NaN, by its `log_total`."""
    if not all(map(math.isfinite, log_totals)):
        raise CamelidError(NOT_FINITE)


class Decoder(ABC):
    """A model over blocks of keys and values, `tokens` tokens in all.

    It computes in evaluation mode and does not change the mode of the model.
    """

    def __init__(self, model: Transformer, tokens: int) -> None:
        self.model, self.spec = in_evaluation(model), model.spec
        self.weights = WeightWatch(model)
        blocks = -(-tokens // BLOCK_TOKENS)
        self.pool = BlockPool(blocks, keep=KEPT_CONTEXTS * -(-self.spec.context_length // BLOCK_TOKENS))

    def renew(self) -> None:
        """Goes on with the weights that the model has now; no sequence may be in use.

        What was computed before is not found again, and copies of weights are made again.
        """
        self.pool.forget()
        self.weights.renew()  # first, to let go of parameters that were replaced
        self.load()

    def load(self) -> None:
        """Makes what is kept of the weights beside the model's own tensors."""
        for module in self.model.modules():
            if isinstance(module, PackedLinear):
                module.forget_arranged()

    def begin(
        self, prompt: Sequence[int], generated: Sequence[int] = ()
    ) -> tuple[CachedSequence, Sequence[int]]:
        """A sequence that holds as much of prompt and answer as the cache does, and the tokens that are left
        to compute."""
        sequence, tokens = CachedSequence(self.pool), [*prompt, *generated]
        return sequence, tokens[sequence.adopt(tokens) :]

    def extend(self, extensions: Sequence[Extension]) -> Predictions:
        """Computes the tokens, which then are in the cache; what may follow, one sequence's behind the
        other's.

        Raises `NoBlocksError` where the cache is full, and `CamelidError` where memory runs out; no sequence
        has changed then.
        """
        for extension in extensions:
            self.reserve(extension)
        predictions = self.compute(extensions)
        for extension in extensions:
            extension.sequence.append(extension.tokens)
        return predictions

    def unread(self, sequence: CachedSequence) -> int:
        """Tokens of a source that are computed, all at once, with the sequence's next extension: without an
        encoder none."""
        return 0

    def reserve(self, extension: Extension) -> None:
        """Takes the blocks that an extension needs, which then are its sequence's own; raises
        `NoBlocksError`."""
        own = extension.sequence.blocks
        held = len(own)
        if copy := extension.sequence.reserve(len(extension.tokens)):
            self.copy_block(*copy)
        for block in own[held:]:
            self.clear_block(block)

    @abstractmethod
    def compute(self, extensions: Sequence[Extension]) -> Predictions:
        """Writes keys and values of the tokens into the reserved blocks; predictions as `extend` gives
        them."""

    @abstractmethod
    def copy_block(self, source: int, target: int) -> None:
        """Copies a block in every layer."""

    @abstractmethod
    def clear_block(self, block: int) -> None:
        """Fills a block with zeros: stale NaNs would leak through the attention mask (0 * NaN = NaN)."""


class TorchDecoder(Decoder):
    """The `Transformer`'s own forward pass; rows of unequal length are padded on the right."""

    def __init__(self, model: Transformer, dtype: torch.dtype, tokens: int) -> None:
        super().__init__(model, tokens)
        self.dtype = dtype
        device = model.embed_tokens.weight.device
        # One more, where padding goes.
        shape = (
            model.spec.num_layers,
            self.pool.count + 1,
            BLOCK_TOKENS,
            model.spec.num_kv_heads,
            model.spec.head_dim,
        )
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    @torch.inference_mode()
    def compute(self, extensions: Sequence[Extension]) -> Predictions:
        """A pass for lengths that share a power of two, so that less than half of it
        is padding."""
        adapt_cores()
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for index, extension in enumerate(extensions):
            groups[power_of_two(len(extension.tokens))].append(index)
        rows: dict[int, Tensor] = {}
        for members in groups.values():
            group = [extensions[index] for index in members]
            own = torch.split(self.compute_together(group), [extension.wanted for extension in group])
            rows.update(zip(members, own, strict=True))
        return self.predictions(torch.cat([rows[index] for index in range(len(extensions))]))

    def compute_together(self, extensions: Sequence[Extension]) -> Float[Tensor, "wanted vocab"]:
        """The logits that `compute` gives, in one pass."""
        padded, present = padded_rows([extension.tokens for extension in extensions])
        device = self.keys.device
        wanted = torch.tensor([extension.wanted for extension in extensions])
        columns = torch.arange(padded.shape[1])
        # Counted here, since a GPU would have to tell how many there are, and before the pass, for which a
        # copy would wait.
        rows = (
            (present & (columns >= (present.sum(1) - wanted)[:, None])).flatten().nonzero()[:, 0].to(device)
        )
        hidden = self.model.hidden_states(
            padded.to(device),
            cache=self._cache(extensions, padded.shape[1]),
            source=self.source(extensions),
            dtype=self.dtype,
        )
        return self.model.unembed(hidden.flatten(0, 1)[rows]).float()

    def source(self, extensions: Sequence[Extension]) -> Source | None:
        """What the sequences attend to beside their own past: nothing, without an encoder."""
        return None

    def predictions(self, logits: Float[Tensor, "wanted vocab"]) -> Predictions:
        """What `compute` gives of its logits."""
        return Predictions.of(logits)

    def copy_block(self, source: int, target: int) -> None:
        for side in (self.keys, self.values):
            side[:, target] = side[:, source]

    def clear_block(self, block: int) -> None:
        for side in (self.keys, self.values):
            side[:, block] = 0

    def _cache(self, extensions: Sequence[Extension], longest: int) -> KeyValueCache:
        lengths = [len(extension.sequence) for extension in extensions]
        width = -(-(max(lengths) + longest) // BLOCK_TOKENS)
        tables = torch.full((len(extensions), width), self.pool.count)
        for row, extension in zip(tables, extensions, strict=True):
            blocks = extension.sequence.blocks[:width]
            row[: len(blocks)] = torch.tensor(blocks, dtype=torch.long)
        device = self.keys.device
        return KeyValueCache(
            self.keys,
            self.values,
            tables.to(device),
            torch.tensor(lengths, device=device),
            fresh=not any(lengths),
        )


def power_of_two(count: int) -> int:
    """The smallest power of two that is at least `count`."""
    return 1 << (count - 1).bit_length()


def padded_rows(
    rows: Sequence[Sequence[int]],
) -> tuple[Int[Tensor, "rows longest"], Tensor]:
    """Rows of tokens filled up with zeros on the right, and where the tokens are."""
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = torch.as_tensor(ids)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]
