"""A policy in training beside the model that it began as: what both think of sampled answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from camelid.align.columns import ENTROPY, KL, OLD, REFERENCE, VALUE
from camelid.align.critic import has_value_head, values_of
from camelid.align.kl import entropy, exact_kl
from camelid.data.rows.batches import Batch
from camelid.engine.weights import in_evaluation
from camelid.model.adapters import without_adapters
from camelid.model.transformer import Transformer
from camelid.train import losses


@dataclass
class Policy:
    """The model in training, and its reference; None: the same weights with the adapter off.

    `frozen` is the model without dropout, over the same parameters: ratios of probabilities compare weights,
    not dropout's draws.
    """

    model: Transformer
    reference: Transformer | None
    dtype: torch.dtype
    rows_at_once: int
    device: torch.device
    frozen: Transformer = field(init=False)

    def __post_init__(self) -> None:
        self.frozen = in_evaluation(self.model)

    @torch.no_grad()
    def scored(self, batch: Batch) -> Batch:
        """The batch with what is known of its tokens before an update: log-probabilities of policy and
        reference, their exact KL divergence, the entropy, and values where there is a value head."""
        width, by_length = batch.tokens.shape[1], batch.by_length()
        parts = [
            self._columns(part.trimmed().to(self.device))
            for part in batch.take(by_length).split(self.rows_at_once)
        ]
        back, columns = by_length.argsort(), {}
        for name in parts[0]:
            padded = [F.pad(part[name], (0, width - part[name].shape[1])) for part in parts]
            columns[name] = torch.cat(padded).cpu()[back]
        return replace(batch, extra={**batch.extra, **columns})

    def _columns(self, batch: Batch) -> dict[str, Tensor]:
        """The columns of a micro-batch, 0 outside answers; a chunk's logits exist at a time."""
        hidden = self._hidden(self.frozen, batch)
        with self._as_reference() as reference:
            others = self._hidden(reference, batch)
        names = (OLD, REFERENCE, KL, ENTROPY)
        columns = {name: torch.zeros_like(batch.weights).flatten() for name in names}
        answered = batch.weights.flatten().nonzero()[:, 0]
        rows = max(1, losses.CHUNK_VALUES // self.model.spec.vocab_size)
        for chosen in torch.split(answered, rows):
            own = self.frozen.unembed(hidden.flatten(0, 1)[chosen]).float()
            other = (self.reference or self.frozen).unembed(others.flatten(0, 1)[chosen]).float()
            targets = batch.targets.flatten()[chosen, None]
            for name, logits in ((OLD, own), (REFERENCE, other)):
                columns[name][chosen] = logits.log_softmax(-1).gather(-1, targets)[:, 0]
            columns[KL][chosen], columns[ENTROPY][chosen] = exact_kl(own, other), entropy(own)
        if has_value_head(self.model):
            columns[VALUE] = (values_of(self.model, hidden) * (batch.weights > 0)).flatten()
        return {name: column.view_as(batch.weights) for name, column in columns.items()}

    def _hidden(self, model: Transformer, batch: Batch) -> Tensor:
        return model.hidden_states(
            batch.tokens, positions=batch.positions, documents=batch.documents, dtype=self.dtype
        )

    @contextmanager
    def _as_reference(self) -> Iterator[Transformer]:
        if self.reference is not None:
            yield self.reference
            return
        with without_adapters(self.frozen):
            yield self.frozen
