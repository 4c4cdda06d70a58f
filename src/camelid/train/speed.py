"""Measures how fast this machine trains a model."""

from collections.abc import Iterable, Iterator
from itertools import repeat
from statistics import median

import torch

from camelid.base.memory import keep_freed_memory
from camelid.data.rows.batches import Batch, PairBatch
from camelid.data.rows.denoising import random_spans_lengths
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.recipes.training import OptimizerName
from camelid.train.compilation import compile_blocks
from camelid.train.loop import training_steps
from camelid.train.machine import fastest_dtype, rows_at_once
from camelid.train.objectives import cross_entropy
from camelid.train.optim import OPTIMIZERS
from camelid.train.parallel import join_process_group


def training_speed(
    spec: ModelSpec,
    context: int,
    rows: int,
    *,
    compiled: bool,
    optimizer: OptimizerName = "adamw",
    dtype: torch.dtype | None = None,
    seconds: float = 3.0,
) -> float:
    """Tokens per second in full updates of a new model on random tokens: the median after two warm-ups.

    At least three updates are timed, and as many as fit into `seconds`. Where single updates take so long
    that this needs more than twice the time, one warm-up and fewer updates do. dtype: by default the fastest.
    """
    updates = timed_updates(spec, context, rows, compiled=compiled, optimizer=optimizer, dtype=dtype)
    return rows * context / typical(updates, seconds)


def typical(updates: Iterable[float], seconds: float) -> float:
    """The seconds that an update usually takes, from those of each since the start; see `training_speed`."""
    times: list[float] = []
    for time in updates:
        times.append(time)
        later = times[2:]
        if sum(later) >= seconds and (len(later) >= 3 or sum(later) >= 2 * seconds):
            break
        # The first update may compile; the second does not.
        if len(times) > 1 and times[-1] >= 2 * seconds:
            return times[-1]
    return median(times[2:])


def timed_updates(
    spec: ModelSpec,
    context: int,
    rows: int,
    *,
    compiled: bool,
    optimizer: OptimizerName = "adamw",
    dtype: torch.dtype | None = None,
) -> Iterator[float]:
    """The seconds of each full update of a new model on random tokens; an infinite iterator.

    Device, micro-batch size and, unless given, precision are the defaults of `train.fit`. For an
    encoder-decoder, sources have `context` tokens and targets the length that span corruption gives them.
    """
    device = join_process_group().device
    dtype = dtype or fastest_dtype(device)
    keep_freed_memory(device)
    model = Transformer(spec).initialize(0).to(device)
    if compiled:
        compile_blocks(model, "auto")
    steps = training_steps(
        model,
        repeat(random_batch(spec, context, rows).to(device)),
        cross_entropy(model, dtype),
        OPTIMIZERS[optimizer](model.named_parameters(), weight_decay=0.1, betas=(0.9, 0.95), eps=1e-8),
        lambda step: 1e-4,
        micro_batch_size=rows_at_once(rows, context, spec.hidden_size, dtype, device),
        gradient_clip=1.0,
    )
    return (step.seconds for step in steps)


def random_batch(spec: ModelSpec, context: int, rows: int) -> Batch | PairBatch:
    """Rows of random tokens, the same each time; pairs where the model has an encoder."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, spec.vocab_size, (rows, context), generator=generator)
    if spec.encoder_layers:
        shape = (rows, random_spans_lengths(context)[1])
        targets = torch.randint(0, spec.vocab_size, shape, generator=generator)
        return PairBatch(tokens, tokens >= 0, targets, targets, torch.ones(targets.shape))
    positions = torch.arange(context).expand(rows, context).contiguous()
    return Batch(tokens, tokens, torch.ones(rows, context), torch.zeros_like(tokens), positions)
