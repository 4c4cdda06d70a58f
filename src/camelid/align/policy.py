"""A policy in training beside the model that it began as: what both think of sampled answers."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from camelid.align.columns import ENTROPY, KL, OLD, REFERENCE, VALUE
from camelid.align.critic import has_value_head, values_of
from camelid.align.kl import entropy, exact_kl
from camelid.data.rows.batches import Batch
from camelid.data.rows.shared_prompts import joined
from camelid.engine.weights import in_evaluation
from camelid.model.adapters import without_adapters
from camelid.model.layers import logits
from camelid.model.transformer import Transformer
from camelid.train.losses import row_chunks
from camelid.train.objectives import read_out
from camelid.train.parallel import ProcessGroup
from camelid.train.sharding import renew, shard

Outputs = tuple[Tensor, Tensor]
"""Hidden states and the output matrix."""


@dataclass
class Policy:
    """The model in training, and its reference; None: the same weights with the adapter off.

    `frozen` is the model without dropout, over the same parameters: ratios of probabilities compare weights,
    not dropout's draws. `sampler` is what answers are sampled from: the model itself, or where several
    processes share its weights a whole copy in each, see `renew_sampler`. The reference is whole in each.
    """

    model: Transformer
    reference: Transformer | None
    dtype: torch.dtype
    rows_at_once: int
    group: ProcessGroup
    frozen: Transformer = field(init=False)
    sampler: Transformer = field(init=False)

    def __post_init__(self) -> None:
        self.sampler = self.model if self.group.size == 1 else copy.deepcopy(self.model)
        shard(self.model, self.group.mesh, self.group.gathered)
        self.frozen = in_evaluation(self.model)

    def renew_sampler(self) -> None:
        """Gives the sampler the present weights; all processes must call it."""
        if self.sampler is not self.model:
            renew(self.sampler, self.model)

    @torch.no_grad()
    def scored(self, batch: Batch) -> Batch:
        """The batch with what is known of its tokens before an update: log-probabilities of policy and
        reference, their exact KL divergence, the entropy, and values where there is a value head.

        Processes of the data dimension share the rows, which must be as many for each.
        """
        group = self.group
        parts = []
        for part in group.share_of(batch).split(self.rows_at_once):
            laid_out = joined(part.to(group.device))
            columns = self._columns(laid_out.batch)
            parts.append({name: laid_out.apart(each, part.weights) for name, each in columns.items()})
        own = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        shares = group.collect_by_rows(own)
        columns = {name: torch.cat([each[name] for each in shares]) for name in own}
        return replace(batch, extra={**batch.extra, **columns})

    def _columns(self, batch: Batch) -> dict[str, Tensor]:
        """The columns of a micro-batch, 0 outside answers; a chunk's logits exist at a time."""
        with self._as_reference() as reference:
            others = _states_and_matrix(reference, batch, self.dtype)
        columns: dict[str, Tensor] = {}

        def read(hidden: Tensor, weight: Tensor) -> Tensor:
            # An adapter leaves the output matrix as it is, which processes hold only while they compute.
            matrix = weight if self.reference is None else others[1]
            columns.update(self._compared((hidden, weight), (others[0], matrix), batch))
            return hidden

        read_out(self.frozen, batch, read, self.dtype)
        return {name: column.view_as(batch.weights) for name, column in columns.items()}

    def _compared(self, own: Outputs, other: Outputs, batch: Batch) -> dict[str, Tensor]:
        names = (OLD, REFERENCE, KL, ENTROPY)
        columns = {name: torch.zeros_like(batch.weights).flatten() for name in names}
        answered = batch.weights.flatten().nonzero()[:, 0]
        for chosen in row_chunks(answered, self.model.spec.vocab_size):
            ours, theirs = (
                logits(hidden.flatten(0, 1)[chosen], matrix).float() for hidden, matrix in (own, other)
            )
            targets = batch.targets.flatten()[chosen, None]
            for name, found in ((OLD, ours), (REFERENCE, theirs)):
                columns[name][chosen] = found.log_softmax(-1).gather(-1, targets)[:, 0]
            columns[KL][chosen], columns[ENTROPY][chosen] = exact_kl(ours, theirs), entropy(ours)
        if has_value_head(self.model):
            columns[VALUE] = (values_of(self.model, own[0]) * (batch.weights > 0)).flatten()
        return columns

    @contextmanager
    def _as_reference(self) -> Iterator[Transformer]:
        if self.reference is not None:
            yield self.reference
            return
        with without_adapters(self.frozen):
            yield self.frozen


def _states_and_matrix(model: Transformer, batch: Batch, dtype: torch.dtype) -> Outputs:
    found: list[Tensor] = []

    def keep(hidden: Tensor, weight: Tensor) -> Tensor:
        found[:] = hidden, weight
        return hidden

    read_out(model, batch, keep, dtype)
    return found[0], found[1]
