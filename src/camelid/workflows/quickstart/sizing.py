"""Sizes that fit the time: measures the speed, then chooses model size and token counts."""

from pathlib import Path
from statistics import median
from typing import Any

from camelid.data.read.compressed import open_bytes
from camelid.data.read.files import data_files
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_spec
from camelid.recipes.model_shape import ModelShape
from camelid.runs.run import METRICS, read_metrics
from camelid.scaling.plan import SHAPES, Candidate, Limits, SizePlan, plan_run, plan_training
from camelid.scaling.saved import load_fit, loss_by
from camelid.train.speed import training_speed
from camelid.workflows.quickstart.budget import TUNING_SHARE
from camelid.workflows.quickstart.job import Job

CONTEXT = 512
BATCH_ROWS = 8
"""Rows per update: as fast as 16 on two cores, with twice the updates for the same text."""
REFERENCE = ModelShape(hidden_size=256, num_layers=4, num_heads=4, context_length=CONTEXT)
"""The shape on which the machine's speed is first measured."""
WORLD_VOCABULARY = 2048
TOKENS_PER_PARAMETER = 4.0
"""Below Chinchilla's 20, which is for a given number of FLOPs: narrow models achieve fewer FLOPs per second,
so the best size for a given time is larger than for given FLOPs (docs/quickstart.md has the comparison)."""
COMPILE_FROM_SECONDS = 120.0
"""Seconds of training from which on compiling saves more time than it takes."""
MOST_EPOCHS = 4
"""Up to four epochs are nearly as good as new text (Muennighoff et al. 2023, arXiv:2305.16264)."""
VALIDATIONS = 8
"""Most validations in a stage, and as many checkpoints; one more validation precedes the first step."""
VALIDATION_SHARE, VALIDATION_COST = 0.15, 2 / 3
"""Largest share of tuning's time for validations, and the time of a validation row relative to a training
row: only the forward pass, but not compiled."""
GROUP, TOKENS_OF_ANSWER, COST_OF_ANSWER = 8, 120, 1.5
"""Of reinforcement: answers to a question, tokens of one with its question, and the cost of a token relative
to one in tuning; rather too low, as the clock can only end a run early."""
LEAST_PRACTICE = 10
BYTES_PER_TOKEN = 3.6
"""Approximate, for plain English with a vocabulary of a few thousand; docs/world.md measures the world's."""


def size_pretraining(job: Job) -> dict[str, Any]:
    """Vocabulary, shape and steps of the model that this machine can train in the time left."""
    text_bytes = sum(_size(path) for path in data_files(job.text)) if job.text else None
    vocab_size = WORLD_VOCABULARY if text_bytes is None else 4096 if text_bytes < 50_000_000 else 8192
    before = job.budget.used
    tuning = job.budget.for_training * TUNING_SHARE
    seconds = job.budget.for_training - tuning
    reference = REFERENCE.spec(vocab_size)
    compiled = seconds >= COMPILE_FROM_SECONDS
    rough = training_speed(reference, CONTEXT, BATCH_ROWS, compiled=False)
    flops = rough * reference.training_flops_per_token(CONTEXT)
    plan = _best_size(job, seconds, flops, vocab_size)
    speed = training_speed(
        plan.shape.spec(vocab_size), CONTEXT, BATCH_ROWS, compiled=compiled, optimizer="muon"
    )
    tokens = int(speed * max(1.0, seconds - (job.budget.used - before)))
    if text_bytes is not None:
        tokens = min(tokens, int(MOST_EPOCHS * text_bytes / BYTES_PER_TOKEN))
    return {
        "vocab_size": vocab_size,
        "shape": plan.shape.model_dump(),
        "parameters": plan.parameters,
        "compile": compiled,
        "tokens_per_second": round(speed),
        "steps": max(20, tokens // (BATCH_ROWS * CONTEXT)),
        "tuning_tokens": int(speed * tuning),
    }


def _best_size(job: Job, seconds: float, flops_per_second: float, vocab_size: int) -> SizePlan:
    """The size with the lowest loss by the job's law, else by tokens per parameter."""
    if job.law is None:
        return plan_training(
            seconds,
            flops_per_second,
            vocab_size=vocab_size,
            context_length=CONTEXT,
            tokens_per_parameter=TOKENS_PER_PARAMETER,
        )
    rungs = [Candidate.of(rung, vocab_size, CONTEXT) for rung in SHAPES]
    run = plan_run(loss_by(load_fit(job.law).constants), Limits(seconds * flops_per_second), rungs)
    return SizePlan(run.candidate.shape, run.candidate.parameters, int(run.tokens), seconds)


def size_tuning(job: Job, rows_per_epoch: int, validation_rows: int, context: int) -> dict[str, Any]:
    """Steps and validations of tuning that fit into the time left, for at most `MOST_EPOCHS` epochs."""
    if job.base is None:
        records = read_metrics(job.out / "pretrain" / METRICS)
        updates = [row for row in records if "tokens_per_second" in row]
        # The last quarter: the machine may have become faster or slower since the start.
        speed = median(row["tokens_per_second"] for row in updates[-max(1, len(updates) // 4) :])
        pretrained = job.journal.decisions["pretrain"]
        rows, compiled = BATCH_ROWS, bool(pretrained["compile"])
        undisturbed = pretrained.get("tuning_tokens", 0) / context
    else:
        rows, compiled = BATCH_ROWS // 2, job.budget.for_training >= COMPILE_FROM_SECONDS
        speed = training_speed(read_spec(resolve(job.pretrained)), context, rows, compiled=compiled)
        undisturbed = 0.0
    affordable = speed * job.budget.for_training / context
    # What the clock leaves decides in the end, so that tuning can catch up where the machine is faster again.
    affordable = max(affordable, undisturbed)
    each = max(1.0, VALIDATION_COST * validation_rows)
    validations = max(1, min(VALIDATIONS, int(VALIDATION_SHARE * affordable / each) - 1))
    steps = int(affordable - (validations + 1) * VALIDATION_COST * validation_rows) // rows
    most = -(-MOST_EPOCHS * rows_per_epoch // rows)
    return {
        "compile": compiled,
        "tokens_per_second": round(speed),
        "rows": rows,
        "steps": max(10, min(steps, most)),
        "validations": validations,
    }


def size_reinforcement(job: Job, questions: int) -> dict[str, Any]:
    """Updates of reinforcement that would fit at the speed of tuning; more are planned, and the clock ends
    it.

    An update samples, scores twice and trains the answers, each after its question.
    """
    records = read_metrics(job.out / "tune" / METRICS)
    speed = median(row["tokens_per_second"] for row in records if "tokens_per_second" in row)
    tokens = COST_OF_ANSWER * TOKENS_OF_ANSWER * questions * GROUP
    return {"steps": max(LEAST_PRACTICE, int(job.budget.for_reinforcing * speed / tokens))}


def _size(path: Path) -> int:
    """The size of a file in bytes, decompressed."""
    with open_bytes(path) as file:
        return sum(len(block) for block in iter(lambda: file.read(1 << 20), b""))
