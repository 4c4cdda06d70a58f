"""Prefix language modelling for decoder-only models: only the part after a random prefix is trained."""

from dataclasses import replace

import numpy as np

from camelid.data.rows.denoising import draws
from camelid.data.rows.packing import Row, Rows, digest_of


class PrefixRows:
    """Rows of another source, with weight 0 on the targets inside a prefix of each piece.

    A piece of n tokens is split after 1 to n - 1 tokens, drawn uniformly in each epoch: the prefix LM
    objective of T5 (arXiv:1910.10683, section 3.2.1) as loss weights. The prefix is the first token and the
    targets of weight 0 that follow it.
    """

    def __init__(self, rows: Rows, seed: int = 0):
        self.context, self.per_epoch = rows.context, rows.per_epoch
        self.digest = digest_of("prefix", rows.digest, seed)
        self._rows = rows
        self._seed = seed

    def __getitem__(self, index: int) -> Row:
        row = self._rows[index]
        starts = np.flatnonzero(np.diff(row.documents, prepend=-1))
        lengths = np.diff(starts, append=len(row.documents))
        uniform = draws(self._seed, index).random(len(starts))
        # A single token cannot be split; its target stays trained.
        splits = 1 + (uniform * (lengths - 1)).astype(np.int64)
        in_prefix = row.positions < np.repeat(splits - 1, lengths)
        return replace(row, weights=np.where(in_prefix, np.float32(0), row.weights))
