"""Pieces of pretraining text beside sampled answers, so that a policy does not forget it (PPO-ptx)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from camelid.align.columns import TEXT
from camelid.base.errors import CamelidError
from camelid.data.read.corpus import Corpus
from camelid.data.rows.batches import Batch
from camelid.recipes.rollouts import PPOSettings
from camelid.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class PretrainingText:
    """Documents one after the other, as ids."""

    ids: NDArray[np.int64]
    seed: int

    @classmethod
    def read(cls, corpus: Corpus, tokenizer: Tokenizer, seed: int) -> "PretrainingText":
        """The documents of files, each ended by the tokenizer's end token."""
        end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
        ids: Iterable[int] = (each for text, _ in corpus for each in (*tokenizer.encode(text), *end))
        return cls(np.fromiter(ids, np.int64), seed)

    def added(self, batch: Batch, step: int, settings: PPOSettings) -> Batch:
        """The batch with pieces of text as long as its rows, whose loss counts `pretraining_weight` times.

        The loop divides by all weights, so an update follows the mean loss of the answers' tokens plus
        gamma times that of the text's, divided by 1 + gamma (InstructGPT, equation 2).
        """
        rows, width = settings.pretraining_rows, batch.tokens.shape[1]
        if len(self.ids) <= width:
            raise CamelidError(
                f"the pretraining text has {len(self.ids)} tokens and rows have {width}; give more text"
            )
        starts = np.random.default_rng([self.seed, step]).integers(len(self.ids) - width, size=rows)
        pieces = torch.from_numpy(np.stack([self.ids[start : start + width + 1] for start in starts]))
        weight = settings.pretraining_weight * float(batch.weights.sum()) / (rows * width)
        columns = {
            "tokens": pieces[:, :-1],
            "targets": pieces[:, 1:],
            "weights": torch.full((rows, width), weight),
            "documents": torch.zeros_like(pieces[:, 1:]),
            "positions": torch.arange(width).expand(rows, width),
        }
        joined = {name: torch.cat((getattr(batch, name), column)) for name, column in columns.items()}
        extra = {
            name: torch.cat((column, torch.full((rows, width), float(name == TEXT))))
            for name, column in batch.extra.items()
        }
        return replace(batch, **joined, extra=extra)
