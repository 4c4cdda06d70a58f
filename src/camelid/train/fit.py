"""Training with logging, validation, checkpoints, resuming and stopping."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.memory import keep_freed_memory
from camelid.base.progress import StepLog, Validation
from camelid.data.rows.batches import AnyBatch, batches
from camelid.data.rows.packing import Rows
from camelid.data.rows.pairs import PairRows
from camelid.formats.hugging_face.tensor_files import dtype_name
from camelid.model.adapters import adapted, has_quantised_base
from camelid.model.transformer import Transformer, run_selectively
from camelid.recipes.training import Training
from camelid.runs.run import METRICS, Run, read_metrics
from camelid.train.adapting import round_frozen, training_flops_per_token
from camelid.train.clock import ClockedRun, TimeLimit
from camelid.train.compilation import compile_blocks
from camelid.train.interrupt import stop_between_steps
from camelid.train.loop import Objective, Step, training_steps
from camelid.train.machine import fastest_dtype, peak_flops, rows_at_once
from camelid.train.objectives import cross_entropy
from camelid.train.optim import OPTIMIZERS, check_adafactor_rate
from camelid.train.parallel import ProcessGroup
from camelid.train.saving import Saver
from camelid.train.schedule import learning_rate
from camelid.train.sharding import gather, shard
from camelid.train.state import load_state
from camelid.train.track import Log, tracked
from camelid.train.validation import ValidationLoss, validation_loss

JUMP_NATS = 2.0
"""A loss this far above its running mean has diverged; noise between batches is a tenth of that."""
JUMP_MEMORY = 0.95
JUMP_PATIENCE = 5
"""Consecutive steps above it; PaLM (arXiv:2204.02311, section 5.1) recovered from single spikes by itself."""


M = TypeVar("M", bound=Transformer)
Formula = Callable[[M, torch.dtype, float], Objective]
"""Makes the objective of a model, given the precision of activations and the weight of the z-loss."""


@dataclass(frozen=True)
class Setup:
    """What is decided once before the first step, the same in every process of the group."""

    group: ProcessGroup
    dtype: torch.dtype
    micro_batch_size: int


BatchOf = Callable[[int, Sequence[int]], AnyBatch]
"""This process's share of an update's batch, from the update's number and the places of all its rows."""
Measure = Callable[[M, Setup], Validation]
"""Measures a model in training on held-out rows."""


def fit(
    run: Run,
    model: M,
    batches_from: Callable[[int], Iterator[AnyBatch]],
    objective: Objective,
    training: Training,
    setup: Setup,
    validate: Callable[[], Validation] | None = None,
    seed: int = 0,
    limit: TimeLimit | None = None,
    *,
    also: Callable[[], Mapping[str, float]] = dict,
    samples: bool = False,
) -> M:
    """Trains `model` by `objective`, from the run's newest intact checkpoint, and returns it.

    batches_from: this process's batches from a given step on. Each is requested after the previous update, so
    they may be samples of the model itself. seed: of dropout. Every step is logged to the run's metrics; a
    stop signal saves the state and raises `KeyboardInterrupt`. Raises `CamelidError` if the loss is NaN or
    infinite, or diverges.

    limit: lets the run end before the recipe's last step, by the clock (`train.clock`; one process). also:
    further metrics of an update, asked for after it. samples: the model samples its batches, whose widths
    change, and whose rows are sorted by length: neither MFU nor gradient noise is logged.
    """
    optimizer = _optimizer(model.train(), training)
    done = _resume(run, model, optimizer, setup.group)
    clocked = ClockedRun(run.folder, training, limit)
    steps = training_steps(
        model,
        clocked.until_end(batches_from(done), done),
        objective,
        optimizer,
        (lambda step: _rate(step, training)) if limit is None else clocked.plan.rate,
        micro_batch_size=setup.micro_batch_size,
        gradient_clip=training.gradient_clip,
        start=done,
        seed=seed,
        group=setup.group,
    )
    with (
        stop_between_steps() as stop,
        _step_log(model, training, setup, samples) as log,
        _tracked(run, training, setup) as track,
        Saver(run, model, optimizer, setup.group, training.keep_checkpoints) as saver,
    ):
        if done == 0:
            run.log({"step": 0, "dtype": dtype_name(setup.dtype), **_validated(log, -1, validate)})
        for step in steps if samples else _watched(steps):  # the loss of samples is in units of rewards
            updates = step.number + 1
            log.total_steps = clocked.decide(updates)
            last = updates >= log.total_steps
            record = {**log.step(step), **_noise(step, samples), **also()}
            if last or updates % training.validate_every == 0:
                record |= _validated(log, step.number, validate)
            run.log(record)
            track(record)
            stopping, failed = setup.group.any_rank(bool(stop), saver.failed)
            # Saving waits for what failed before, and raises that.
            due = failed or last or updates % training.checkpoint_every == 0
            _keep_state(saver, updates, due=due, last=last, stopping=stopping)
    return model.eval()


def _keep_state(saver: Saver, updates: int, *, due: bool, last: bool, stopping: bool) -> None:
    """Saves the state after an update where it is due, or training is to stop: `KeyboardInterrupt`.

    Raises `CamelidError` if it, or the one before, could not be written.
    """
    if due or stopping:
        saver.save(updates)
    if last or stopping:
        saver.finish()
    if stopping and not last:
        raise KeyboardInterrupt(f"stopped after step {updates}; the state is saved")


def fit_rows(
    run: Run,
    model: M,
    rows: Rows | PairRows,
    training: Training,
    group: ProcessGroup,
    seed: int = 0,
    limit: TimeLimit | None = None,
    *,
    formula: Formula[M] = cross_entropy,
    measure: Measure[M] | None = None,
    samples_of: Callable[[M], BatchOf] | None = None,
) -> M:
    """Trains `model` on `rows` by the objective that `formula` makes; see `fit`.

    Of several processes only the main one has the whole model afterwards. measure: validates it, such as
    `measured_loss`. seed: of dropout. samples_of: is given the whole model before
    processes share it, and makes the batches from it instead of from `rows`.
    """
    if not has_quantised_base(model):  # whose matrices come and go would leave gaps between them
        keep_freed_memory(group.device)
    training = training.for_rows(rows.per_epoch)
    batch_rows = rows_of_update(training, group.data_size)
    setup = _setup(run, training, batch_rows, model.spec.hidden_size, group)
    if group.gathered not in (None, setup.dtype):
        raise WrongCall(
            "parallel.gather is bfloat16, and activations are float32: weights would be rounded that are not "
            "now; give --training.dtype bfloat16, or leave it out"
        )
    round_frozen(model.to(group.device), setup.dtype)
    batch_of = None if samples_of is None else samples_of(model)
    prepare(shard(model, group.mesh, group.gathered), training)

    def batches_from(step: int) -> Iterator[AnyBatch]:
        if batch_of is None:
            return batches(rows, batch_rows, step, group.data_rank, group.data_size)
        return (batch_of(each, range(each * batch_rows, (each + 1) * batch_rows)) for each in count(step))

    check = None if measure is None else partial(measure, model, setup)
    objective = formula(model, setup.dtype, training.z_loss)
    trained = fit(run, model, batches_from, objective, training, setup, check, seed, limit)
    return gather(trained, keep=group.is_main)


def measured_loss(
    rows: Rows | PairRows | None, token_bytes: NDArray[np.int64]
) -> Measure[Transformer] | None:
    """Measures the cross-entropy on held-out rows; None without any.

    token_bytes: bytes of text of each vocabulary entry, for bits per byte.
    """
    if rows is None:
        return None

    def measure(model: Transformer, setup: Setup) -> ValidationLoss:
        return validation_loss(model, rows, token_bytes, setup.dtype, setup.micro_batch_size, setup.group)

    return measure


def rows_of_update(training: Training, processes: int) -> int:
    """Rows of one update; raises `WrongCall` if these processes, of the data dimension, cannot share them."""
    rows, context = training.global_batch_tokens // training.context_length, training.context_length
    if rows % processes:
        enough = math.ceil(rows / processes) * processes * context
        raise WrongCall(
            f"an update has {rows} rows (global_batch_tokens {training.global_batch_tokens} / context_length "
            f"{context}), which {processes} processes cannot share equally; "
            "give --training.global-batch-tokens "
            f"{enough}, or start a number of processes that divides {rows}"
        )
    return rows


def prepare(model: Transformer, training: Training) -> Transformer:
    """Sets up activation recomputation and compilation as the recipe says; returns the model."""
    if training.recompute_activations == "selective" and adapted(model):
        raise WrongCall(
            "adapters add to the results that selective recomputation would keep; give "
            "--training.recompute-activations true or false"
        )
    for stack in model.stacks:
        stack.recompute_activations = training.recompute_activations is True
        if training.recompute_activations == "selective":
            stack.run_block = run_selectively
    # Blocks over quantised weights stay eager: dynamo cannot follow their own backward pass.
    eager = training.compile == "auto" and has_quantised_base(model)
    compile_blocks(model, False if eager else training.compile)
    return model


def _noise(step: Step, samples: bool) -> Mapping[str, float]:
    """The terms of the gradient noise scale; samples are sorted by length, so that no part stands for all."""
    return step.noise._asdict() if step.noise and not samples else {}


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
                f"step {step.number}: the loss jumped from about {mean:.3f} to {step.loss:.3f} and stayed "
                "there; check the data of these steps, or start a new run (--out) with a lower "
                "--training.learning-rate"
            )
        mean = JUMP_MEMORY * mean + (1 - JUMP_MEMORY) * min(step.loss, mean + JUMP_NATS)
        yield step


def _setup(run: Run, training: Training, rows: int, width: int, group: ProcessGroup) -> Setup:
    """The recipe's precision and micro-batch size, by default chosen for this machine."""
    dtype = precision(run, training, group)
    micro_batch_size = training.micro_batch_size or rows_at_once(
        rows // group.data_size, training.context_length, width, dtype, group.device
    )
    return Setup(group, dtype, micro_batch_size)


def precision(run: Run, training: Training, group: ProcessGroup) -> torch.dtype:
    """The recipe's dtype; "auto" is decided once by measuring, and a resumed run keeps its first choice."""
    if training.dtype != "auto":
        return getattr(torch, training.dtype)  # type: ignore[no-any-return]
    dtype = group.broadcast(_decided_dtype(run, group.device) if group.is_main else None)
    assert dtype is not None  # broadcast from the main process
    return dtype


def _decided_dtype(run: Run, device: torch.device) -> torch.dtype:
    metrics = run.folder / METRICS
    begun = read_metrics(metrics)[:1] if metrics.exists() else []
    kept = begun[0].get("dtype") if begun else None
    return fastest_dtype(device) if kept is None else getattr(torch, kept)


def _step_log(model: Transformer, training: Training, setup: Setup, samples: bool) -> StepLog:
    if samples:
        return StepLog(training.total_steps, None, setup.group.is_main)
    flops = training_flops_per_token(model, training.context_length)
    peak = peak_flops(setup.group.device, setup.dtype) * setup.group.size
    return StepLog(training.total_steps, flops / peak, setup.group.is_main)


def _validated(log: StepLog, step: int, validate: Callable[[], Validation] | None) -> dict[str, Any]:
    return {} if validate is None else log.validation(step, validate())


def _tracked(run: Run, training: Training, setup: Setup) -> AbstractContextManager[Log]:
    return tracked(training.track if setup.group.is_main else (), run.folder)


def _optimizer(model: Transformer, training: Training) -> torch.optim.Optimizer:
    if training.optimizer == "adafactor":
        check_adafactor_rate(lambda step: _rate(step, training), training.total_steps)
    return OPTIMIZERS[training.optimizer](
        model.named_parameters(), weight_decay=training.weight_decay, betas=training.betas, eps=training.eps
    )


def _resume(run: Run, model: Transformer, optimizer: torch.optim.Optimizer, group: ProcessGroup) -> int:
    checkpoint = group.broadcast(run.resume())
    return 0 if checkpoint is None else load_state(checkpoint.folder, model, optimizer, group)
