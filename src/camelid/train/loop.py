"""The one training loop: an iterator of steps. The caller evaluates, saves and stops."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from camelid.base.errors import CamelidError
from camelid.data.rows.batches import AnyBatch
from camelid.train.parallel import World, sum_over_world

Objective = Callable[[AnyBatch], Tensor]
"""The summed loss of a micro-batch, weighted per token; the loop divides by the weights of the whole batch."""


@dataclass(frozen=True)
class Step:
    """What one update did; `loss` in nats per trained token, `seconds` of wall time, `tokens` read in all processes."""

    number: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    trained_tokens: int
    seconds: float


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
    world: World | None = None,
) -> Iterator[Step]:
    """One update per batch, numbered from `start`; yields after each.

    A batch holds this process's rows of one update; they are taken `micro_batch_size` at a time, and the gradient is
    that of the mean over the trained tokens of all micro-batches of all processes. Raises `CamelidError` on a batch
    without a trained token, and on a loss or gradient that is no number.
    """
    world = world or World()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for number, batch in enumerate(batches, start):
        began = time.perf_counter()
        rate = learning_rate(number)
        for group in optimizer.param_groups:
            group["lr"] = rate
        totals = torch.tensor(
            [float(batch.weights.sum()), float((batch.weights > 0).sum()), 0.0], dtype=torch.float64
        )
        sum_over_world(world, [totals])
        if totals[0] <= 0:
            raise CamelidError(
                f"step {number}: no trained token in the batch; check the loss mask with `camelid check`"
            )
        total_weight, trained = float(totals[0]), int(totals[1])
        loss = torch.zeros((), dtype=torch.float64)
        for micro_batch in batch.split(micro_batch_size):
            part = objective(micro_batch.to(world.device)) / total_weight
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.detach().double().cpu()
        gradients = [p.grad for p in parameters if p.grad is not None]
        sum_over_world(world, [loss])
        sum_over_world(world, gradients)
        norm = float(nn.utils.clip_grad_norm_(parameters, gradient_clip or math.inf))
        if not math.isfinite(float(loss)) or not math.isfinite(norm):
            raise CamelidError(
                f"step {number}: the loss is {float(loss):.4g} and the gradient norm {norm:.4g}; "
                f"begin a new run with a lower learning rate (now {rate:.3g}) or a longer warm-up"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens = batch.read_tokens * world.size
        yield Step(number, float(loss), rate, norm, tokens, trained, time.perf_counter() - began)
