"""The one training loop: an iterator of steps. The caller evaluates, saves and stops."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from camelid.base.cores import share_cores
from camelid.base.errors import CamelidError
from camelid.data.rows.batches import AnyBatch
from camelid.train.noise import NoiseTerms, noise_of_part
from camelid.train.parallel import ProcessGroup
from camelid.train.sharding import reduce_gradients

Objective = Callable[[AnyBatch], Tensor]
"""The summed loss of a micro-batch, weighted per token; the loop divides by the batch's total weight."""
DROPOUT_SEEDS = "dropout_seeds"
"""The extra column of every batch with a seed for each row, for `Transformer.forward`."""


@dataclass(frozen=True)
class Step:
    """The metrics of one update: `loss` in nats per trained token, wall time, `tokens` over all processes."""

    number: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    trained_tokens: int
    seconds: float
    noise: NoiseTerms | None = None
    """Of the first micro-batch against the whole update; None if there is only one micro-batch."""


def training_steps(
    model: nn.Module,
    batches: Iterable[AnyBatch],
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    learning_rate: Callable[[int], float],
    *,
    micro_batch_size: int,
    gradient_clip: float,
    start: int = 0,
    seed: int = 0,
    group: ProcessGroup | None = None,
) -> Iterator[Step]:
    """One update per batch, numbered from `start`; yields after each.

    Dropout is seeded by `seed`, the update's number and the row's place in it: neither micro-batches nor the
    number of processes change it, and there is no random state to save.

    A batch holds this process's rows of one update, computed `micro_batch_size` at a time. The gradient is
    that of the mean loss over the trained tokens of all micro-batches and processes. Raises `CamelidError` on
    a batch without trained tokens, and on a loss or gradient that is NaN or infinite.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    group = group or ProcessGroup(device=parameters[0].device)
    for number, batch in enumerate(share_cores(batches), start):
        began = time.perf_counter()
        rate = learning_rate(number)
        for settings in optimizer.param_groups:
            settings["lr"] = rate
        first = batch.weights[:micro_batch_size].sum()
        counts = [float(batch.weights.sum()), float((batch.weights > 0).sum()), float(first)]
        total_weight, trained, small = group.sum(torch.tensor(counts, dtype=torch.float64)).tolist()
        if total_weight <= 0:
            raise CamelidError(
                f"step {number}: no trained token in the batch; check the loss mask with `camelid check`"
            )
        loss, norm_of_first = torch.zeros((), dtype=torch.float64), 0.0
        seeds = {DROPOUT_SEEDS: dropout_seeds(seed, number, len(batch.tokens), group.data_rank)}
        micro_batches: list[AnyBatch] = [
            *replace(batch, extra={**batch.extra, **seeds}).split(micro_batch_size)
        ]
        for index, micro_batch in enumerate(micro_batches, 1):
            reduce_gradients(model, index in (1, len(micro_batches)))
            part = objective(micro_batch.to(group.device)) / total_weight
            part.backward()
            loss += part.detach().double().cpu()
            if index == 1 < len(micro_batches):
                norm_of_first = float(group.gradient_norm(parameters))
        group.sum(loss)
        norm = group.clip_gradients(parameters, gradient_clip)
        if not math.isfinite(float(loss)) or not math.isfinite(norm):
            raise CamelidError(
                f"step {number}: the loss is {float(loss):.4g} and the gradient norm {norm:.4g}; "
                f"start a new run with a lower learning rate (now {rate:.3g}) or a longer warm-up"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        noise = noise_of_part(norm_of_first, norm, small, total_weight)
        tokens = batch.read_tokens * group.data_size
        yield Step(number, float(loss), rate, norm, tokens, int(trained), time.perf_counter() - began, noise)


def dropout_seeds(seed: int, step: int, rows: int, rank: int = 0) -> Int[Tensor, " rows"]:
    """The seeds of the rows of an update in share `rank`; all shares have as many."""
    draws = np.random.Generator(np.random.PCG64([seed, step]))
    return torch.from_numpy(draws.integers(2**63, size=(rank + 1) * rows)[rank * rows :])
