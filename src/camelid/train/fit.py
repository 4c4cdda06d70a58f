"""A training stage's middle: the loop with its log, validation, checkpoints, resume and stop."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from camelid.base.errors import CamelidError
from camelid.base.memory import keep_freed_memory
from camelid.base.progress import StepLog
from camelid.data.rows.batches import AnyBatch, batches, collate
from camelid.data.rows.packing import Rows
from camelid.data.rows.pairs import PairRows
from camelid.formats.hugging_face.tensor_files import dtype_name
from camelid.model.transformer import Transformer
from camelid.recipes.training import Training
from camelid.runs.run import METRICS, Run, read_metrics
from camelid.train.compilation import compile_blocks
from camelid.train.interrupt import stop_between_steps
from camelid.train.loop import Step, training_steps
from camelid.train.machine import fastest_dtype, peak_flops, rows_at_once
from camelid.train.objectives import cross_entropy
from camelid.train.optim import OPTIMIZERS, check_adafactor_rate
from camelid.train.parallel import World, from_main, join_world, wait_for_all, wished_anywhere
from camelid.train.schedule import learning_rate
from camelid.train.state import load_state, save_state
from camelid.train.track import tracked

JUMP_NATS = 2.0
"""A loss this far above its running mean has diverged: noise between batches is a tenth of it."""
JUMP_MEMORY = 0.95
JUMP_PATIENCE = 5
"""Steps in a row above the line; PaLM (arXiv:2204.02311, section 5.1) saw single spikes come back by themselves."""


@dataclass(frozen=True)
class ValidationLoss:
    """Mean loss over the validation rows: nats per trained token, and bits per byte of the text they stand for."""

    nats_per_token: float
    bits_per_byte: float


def fit(
    run: Run | None,
    model: Transformer,
    rows: Rows | PairRows,
    validation: Rows | PairRows | None,
    training: Training,
    token_bytes: NDArray[np.int64],
) -> Transformer:
    """Trains `model` on `rows` as `training` says, from the run's newest sound checkpoint on, and returns it.

    run: the main process's run folder, None in the others. token_bytes: bytes of text that each vocabulary entry
    stands for, for bits per byte. Every step is logged to the run's metrics; a stop signal saves the state and raises
    `KeyboardInterrupt`. Raises `CamelidError` where the loss is no number or diverges.
    """
    world = join_world()
    keep_freed_memory(world.device)
    dtype = _precision(run, training, world)
    batch_rows = training.global_batch_tokens // training.context_length
    micro_batch_size = _rows_at_once(training, batch_rows // world.size, model.spec.hidden_size, dtype, world)
    model = prepare(model.to(world.device).train(), training)
    optimizer = _optimizer(model, training)
    done = _resume(run, model, optimizer, world)
    steps = training_steps(
        model,
        islice(batches(rows, batch_rows, done, world.rank, world.size), training.total_steps - done),
        cross_entropy(model, dtype, training.z_loss),
        optimizer,
        lambda step: _rate(step, training),
        micro_batch_size=micro_batch_size,
        gradient_clip=training.gradient_clip,
        start=done,
        world=world,
    )
    flops = model.spec.training_flops_per_token(training.context_length)
    log = StepLog(training.total_steps, flops / (peak_flops(world.device, dtype) * world.size), world.is_main)

    def validated(step: int) -> dict[str, Any]:
        if validation is None:
            return {}
        loss = validation_loss(model, validation, token_bytes, dtype, micro_batch_size, world.device)
        return log.validation(step, loss)

    folder = None if run is None else run.folder
    with stop_between_steps() as stop, log, tracked(training.track, folder) as track:
        if run is not None and done == 0:
            run.log({"step": 0, "dtype": dtype_name(dtype), **validated(-1)})
        for step in _watched(steps):
            last = step.number + 1 == training.total_steps
            record = log.step(step)
            if last or (step.number + 1) % training.validate_every == 0:
                record |= validated(step.number)
            if run is not None:
                run.log(record)
            track(record)
            stopping = wished_anywhere(world, bool(stop))
            if stopping or last or (step.number + 1) % training.checkpoint_every == 0:
                _checkpoint(run, model, optimizer, step.number + 1, training, world)
            if stopping and not last:
                raise KeyboardInterrupt(f"stopped after step {step.number + 1}; its state is saved")
    return model.eval()


def prepare(model: Transformer, training: Training) -> Transformer:
    """The model, its blocks recomputed and compiled as the recipe says."""
    for stack in model.stacks:
        stack.recompute_activations = training.recompute_activations
    compile_blocks(model, training.compile)
    return model


@torch.no_grad()
def validation_loss(
    model: Transformer,
    rows: Rows | PairRows,
    token_bytes: NDArray[np.int64],
    dtype: torch.dtype,
    micro_batch_size: int = 8,
    device: torch.device | str = "cpu",
) -> ValidationLoss:
    """The model's loss over one epoch of rows, weighted as in training; raises `CamelidError` where nothing weighs."""
    was_training = model.training
    model.eval()
    objective = cross_entropy(model, dtype)
    sizes = torch.from_numpy(token_bytes)
    nats, tokens, size = 0.0, 0.0, 0.0
    for batch in _in_order(rows, micro_batch_size):
        nats += float(objective(batch.to(device)))
        tokens += float(batch.weights.sum())
        size += float((sizes[batch.targets] * batch.weights).sum())
    model.train(was_training)
    if tokens == 0:
        raise CamelidError("the validation rows hold no trained token; check them with `camelid check`")
    return ValidationLoss(nats / tokens, nats / math.log(2) / max(size, 1.0))


def _in_order(rows: Rows | PairRows, micro_batch_size: int) -> Iterator[AnyBatch]:
    """One epoch of rows, the last batch as small as it comes."""
    for first in range(0, rows.per_epoch, micro_batch_size):
        last = min(first + micro_batch_size, rows.per_epoch)
        yield collate([rows[index] for index in range(first, last)])


def _rate(step: int, training: Training) -> float:
    return learning_rate(
        step,
        steps=training.total_steps,
        warmup=training.total_warmup_steps,
        peak=training.learning_rate,
        floor_ratio=training.min_learning_rate_ratio,
        schedule=training.schedule,
        decay_fraction=training.decay_fraction,
    )


def _watched(steps: Iterator[Step]) -> Iterator[Step]:
    mean, above = math.nan, 0
    for step in steps:
        mean = step.loss if math.isnan(mean) else mean
        above = above + 1 if step.loss > mean + JUMP_NATS else 0
        if above >= JUMP_PATIENCE:
            raise CamelidError(
                f"step {step.number}: the loss jumped from about {mean:.3f} to {step.loss:.3f} and stayed there; "
                "look at the data of these steps, or begin a new run (--out) with a lower --training.learning-rate"
            )
        mean = JUMP_MEMORY * mean + (1 - JUMP_MEMORY) * min(step.loss, mean + JUMP_NATS)
        yield step


def _precision(run: Run | None, training: Training, world: World) -> torch.dtype:
    """The dtype of the recipe; "auto" is decided once by measuring, and a resumed run keeps what it began with."""
    if training.dtype != "auto":
        return getattr(torch, training.dtype)  # type: ignore[no-any-return]
    decided = None
    if run is not None:
        begun = read_metrics(run.folder / METRICS)[:1] if (run.folder / METRICS).exists() else []
        kept = begun[0].get("dtype") if begun else None
        decided = fastest_dtype(world.device) if kept is None else getattr(torch, kept)
    dtype = from_main(world, decided)
    assert dtype is not None  # the main process has a run
    return dtype


def _rows_at_once(training: Training, rows: int, width: int, dtype: torch.dtype, world: World) -> int:
    """The micro-batch size of the recipe; left open, what suits the machine."""
    return training.micro_batch_size or rows_at_once(
        rows, training.context_length, width, dtype, world.device
    )


def _optimizer(model: Transformer, training: Training) -> torch.optim.Optimizer:
    if training.optimizer == "adafactor":
        check_adafactor_rate(lambda step: _rate(step, training), training.total_steps)
    return OPTIMIZERS[training.optimizer](
        model.named_parameters(), weight_decay=training.weight_decay, betas=training.betas, eps=training.eps
    )


def _resume(run: Run | None, model: Transformer, optimizer: torch.optim.Optimizer, world: World) -> int:
    checkpoint = None if run is None else run.resume()
    folder = from_main(world, None if checkpoint is None else checkpoint.folder)
    return 0 if folder is None else load_state(folder, model, optimizer)


def _checkpoint(
    run: Run | None,
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    step: int,
    training: Training,
    world: World,
) -> None:
    if run is not None:
        run.save_checkpoint(
            step, lambda folder: save_state(folder, model, optimizer, step), keep=training.keep_checkpoints
        )
    wait_for_all(world)
