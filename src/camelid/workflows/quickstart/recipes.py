"""The recipes that a quickstart gives to the ordinary stages."""

import os
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from typing import Any

from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_spec
from camelid.recipes.align import AlignRecipe
from camelid.recipes.data import MixedData, TextData
from camelid.recipes.model_shape import ModelShape
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.rollouts import GRPOSettings
from camelid.recipes.tokenizer import TokenizerRecipe
from camelid.recipes.training import OptimizerName, Training
from camelid.recipes.tune import TuneRecipe
from camelid.runs.prediction import PREDICTION
from camelid.scaling.saved import predict_run
from camelid.text.tokenizer import load_tokenizer
from camelid.train.clock import TimeLimit
from camelid.train.training_rows import decoder_rows
from camelid.workflows.quickstart.budget import TUNING_SHARE
from camelid.workflows.quickstart.job import LONGEST_REPLY, Job
from camelid.workflows.quickstart.sizing import (
    BATCH_ROWS,
    CONTEXT,
    VALIDATIONS,
    size_pretraining,
    size_reinforcement,
    size_tuning,
)
from camelid.workflows.sweep.law import sweep_of, warn_of_other_losses

PRETRAIN_RATE, PRETRAIN_WIDTH = 6e-3, 128
"""Muon's peak learning rate at a width; it falls as 1 / sqrt(width)."""
TUNE_RATE = 2.5e-3
FINISHED_MODEL_RATE = 1e-4
"""Peak learning rate for a model given with --from: lower, since a large one could spoil its training."""
HARD_SKILLS = ("sums", "comparison")
"""What reinforcement practises: skills that tuning leaves far from solved."""
PRACTICE, PRACTICE_HELD_OUT = 8000, 0.02
"""Training questions of each of them, and the share that only measures."""
REINFORCE_RATE, REINFORCE_QUESTIONS, REINFORCE_KL = 2e-4, 16, 0.01
HELD_OUT = 0.02
DECAY = 0.4
"""Last share of the updates in which the rate falls; before them the clock may move the end freely."""


def tokenizer_recipe(job: Job) -> TokenizerRecipe:
    """The recipe of the tokenizer, trained on the pretraining text."""
    sample = TextData(train=job.text_files, skip_bad_rows=bool(job.text))
    return TokenizerRecipe(
        out=job.tokenizer, data=sample, vocab_size=pretrain_sizes(job)["vocab_size"], sample_bytes=10_000_000
    )


def pretrain_sizes(job: Job) -> dict[str, Any]:
    """Vocabulary, shape and steps of the model that fits the time, decided once."""
    sizes: dict[str, Any] = job.journal.decide("pretrain", lambda: size_pretraining(job))
    return sizes


def pretrain_recipe(job: Job) -> PretrainRecipe:
    """The recipe for pretraining the model that fits the time."""
    sizes = pretrain_sizes(job)
    shape = ModelShape(**sizes["shape"])
    rate = PRETRAIN_RATE * sqrt(PRETRAIN_WIDTH / shape.hidden_size)
    held_out = (job.data / "text-validation.jsonl",)
    world = TextData(train=job.text_files, validation=held_out, shuffle=False, workers=os.cpu_count() or 1)
    return PretrainRecipe(
        out=job.out / "pretrain",
        data=_own(job.text) if job.text else world,
        tokenizer=job.tokenizer,
        model=shape,
        training=_training(sizes, BATCH_ROWS, CONTEXT, rate, "muon"),
        prediction=_prediction(job, sizes, shape),
        seed=job.seed,
    )


def _prediction(job: Job, sizes: Mapping[str, Any], shape: ModelShape) -> Path | None:
    """The loss of pretraining by the job's law, written once before the run; nothing without a law."""
    path = job.out / PREDICTION
    if job.law is not None and not path.exists():
        spec, tokens = shape.spec(sizes["vocab_size"]), sizes["steps"] * BATCH_ROWS * CONTEXT
        if (sweep := sweep_of(job.law)) is not None:
            warn_of_other_losses(sweep, sizes["vocab_size"], CONTEXT)
        flops = tokens * spec.training_flops_per_token(CONTEXT)
        predict_run(job.law, spec.parameter_count(), tokens, flops, seed=job.seed).write(path)
    return None if job.law is None else path


def pretrain_limit(job: Job) -> TimeLimit:
    """Ends pretraining when its share of the time that is left at its start is used, decided once."""
    budget = job.budget
    ends = job.journal.decide("pretrain_ends", lambda: budget.used + (1 - TUNING_SHARE) * budget.for_training)
    return TimeLimit(ends, lambda: budget.used)


def tune_recipe(job: Job) -> TuneRecipe:
    """The recipe for tuning on the conversations, for as many epochs as time and `sizing.MOST_EPOCHS`
    allow."""
    base = resolve(job.pretrained)
    context = min(CONTEXT, read_spec(base).context_length)
    world = TextData(train=job.chat_files, validation=(job.data / "chats-validation.jsonl",))
    draft = TuneRecipe(
        out=job.out / "tune",
        model=str(base),
        data=MixedData.model_validate(_own(job.chats) if job.chats else world),
        too_long="cut",
        training=_training({"steps": 1, "compile": False}, 1, context, TUNE_RATE, "muon"),
        seed=job.seed,
    )

    def sizes() -> dict[str, Any]:
        rows, held_out = decoder_rows(draft, load_tokenizer(base))
        return size_tuning(job, rows.per_epoch, 0 if held_out is None else held_out.per_epoch, context)

    decided = job.journal.decide("tune", sizes)
    optimizer: OptimizerName
    rate, optimizer = (TUNE_RATE, "muon") if job.base is None else (FINISHED_MODEL_RATE, "adamw")
    training = _training(decided, decided["rows"], context, rate, optimizer)
    return draft.model_copy(update={"training": training})


def reinforce_recipe(job: Job) -> AlignRecipe:
    """The recipe of practising the hard skills; the clock ends it, `sizing.size_reinforcement` plans more."""
    sizes = job.journal.decide("reinforce", lambda: size_reinforcement(job, REINFORCE_QUESTIONS))
    every = -(-sizes["steps"] // VALIDATIONS)
    training = Training(
        steps=sizes["steps"],
        learning_rate=REINFORCE_RATE,
        schedule="wsd",
        decay_fraction=DECAY,
        warmup_fraction=0.02,
        weight_decay=0.0,
        dtype="float32",
        validate_every=every,
        checkpoint_every=every,
    )
    return AlignRecipe(
        out=job.out / "reinforce",
        method="grpo",
        model=str(job.tuned),
        task=tuple(f"world/{skill}/train" for skill in HARD_SKILLS),
        limit=PRACTICE,
        program="chain_of_thought",
        chat=True,
        max_new_tokens=LONGEST_REPLY,
        too_long="drop",
        grpo=GRPOSettings(questions=REINFORCE_QUESTIONS, kl=REINFORCE_KL),
        held_out=PRACTICE_HELD_OUT,
        training=training,
        seed=job.seed,
    )


def _own(paths: tuple[Path, ...]) -> TextData:
    """The user's files: a share is held out; malformed rows are listed and skipped, so that the job
    continues."""
    return TextData(
        train=paths, validation_fraction=HELD_OUT, skip_bad_rows=True, workers=os.cpu_count() or 1
    )


def _training(
    sizes: Mapping[str, Any], rows: int, context: int, rate: float, optimizer: OptimizerName
) -> Training:
    """A stage's training with the decided sizes: `steps`, `compile` and, if not the default,
    `validations`."""
    every = -(-sizes["steps"] // sizes.get("validations", VALIDATIONS))
    return Training(
        steps=sizes["steps"],
        global_batch_tokens=rows * context,
        context_length=context,
        optimizer=optimizer,
        learning_rate=rate,
        schedule="wsd",
        decay_fraction=DECAY,
        min_learning_rate_ratio=0.05,
        warmup_fraction=0.05,
        compile="auto" if sizes["compile"] else False,
        validate_every=every,
        checkpoint_every=every,
    )
