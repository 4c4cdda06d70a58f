"""Training settings: batches, optimiser, schedule, checkpoints."""

import math
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from camelid.recipes.settings import FREE, Settings

OptimizerName = Literal["adamw", "muon", "adafactor"]
ScheduleName = Literal["cosine", "linear", "wsd", "inverse_sqrt", "constant"]
LENGTHS = ("steps", "tokens", "epochs")
"""The settings of which exactly one says how long to train."""
TrackerName = Literal["tensorboard", "wandb"]


class Training(Settings):
    """Training on batches of a fixed number of tokens."""

    steps: int | None = Field(
        default=None, gt=0, description="number of optimiser steps; give this, tokens or epochs"
    )
    tokens: int | None = Field(default=None, gt=0, description="number of training tokens")
    epochs: float | None = Field(
        default=None, gt=0, description="number of passes over the training rows, after packing"
    )
    global_batch_tokens: int = Field(default=16_384, gt=0, description="tokens per step, over all processes")
    micro_batch_size: int | None = Field(
        default=None,
        gt=0,
        description="rows per forward pass; gradients are accumulated over the batch; by default set to "
        "suit the machine",
    )
    context_length: int = Field(default=512, gt=1, description="tokens per row")
    optimizer: OptimizerName = Field(
        default="adamw",
        description="muon: orthogonalised updates for the layers' matrices, AdamW for the rest; adafactor: "
        "as T5 used it",
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate")
    min_learning_rate_ratio: float = Field(
        default=0.1, ge=0, le=1, description="final learning rate as a fraction of the peak"
    )
    schedule: ScheduleName = Field(
        default="cosine",
        description="learning-rate schedule after warm-up; wsd: warm-up, stable, decay; inverse_sqrt: as T5 "
        "used it",
    )
    warmup_steps: int | None = Field(
        default=None,
        ge=0,
        description="steps of linear warm-up, or of constant rate for inverse_sqrt; by default "
        "warmup_fraction applies",
    )
    warmup_fraction: float = Field(default=0.02, ge=0, lt=1, description="warm-up as a fraction of all steps")
    decay_fraction: float = Field(
        default=0.2, gt=0, le=1, description="wsd: final fraction of the steps in which the rate decays"
    )
    weight_decay: float = Field(
        default=0.1,
        ge=0,
        description="weight decay of matrices; norms and biases are not decayed; T5 trained without it",
    )
    betas: tuple[float, float] = Field(
        default=(0.9, 0.95), description="AdamW's decay rates of the first and second moments"
    )
    eps: float = Field(default=1e-8, gt=0, description="AdamW's epsilon")
    gradient_clip: float = Field(default=1.0, ge=0, description="maximum gradient norm; 0: no clipping")
    z_loss: float = Field(
        default=0.0, ge=0, description="weight of log(Z)^2, with Z the softmax normaliser; PaLM uses 1e-4"
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto",
        description="precision of activations; weights stay float32; auto: bfloat16, or float32 on CPUs "
        "where it is faster",
    )
    compile: Literal["auto"] | bool = Field(
        default="auto",
        description="use torch.compile; auto: if a working compiler is found",
    )
    recompute_activations: Literal["selective"] | bool = Field(
        default=False,
        description="recompute activations in the backward pass to save memory: all of a layer, or "
        "(selective) what is cheap, such as norms",
    )
    validate_every: int = Field(
        default=100, gt=0, description="steps between validations", json_schema_extra=FREE
    )
    checkpoint_every: int = Field(
        default=100, gt=0, description="steps between checkpoints", json_schema_extra=FREE
    )
    keep_checkpoints: int = Field(
        default=2, gt=0, description="number of newest checkpoints to keep", json_schema_extra=FREE
    )
    track: tuple[TrackerName, ...] = Field(
        default=(), description="also log metrics to these tools", json_schema_extra=FREE
    )

    @property
    def total_steps(self) -> int:
        """Number of steps: `steps`, or as many as `tokens` needs, rounded up; for epochs see `for_rows`."""
        if self.steps is not None:
            return self.steps
        assert self.tokens is not None  # `for_rows` has replaced epochs
        return -(-self.tokens // self.global_batch_tokens)

    @property
    def total_warmup_steps(self) -> int:
        """Number of warm-up steps."""
        return (
            self.warmup_steps
            if self.warmup_steps is not None
            else round(self.total_steps * self.warmup_fraction)
        )

    def for_rows(self, rows_per_epoch: int) -> Self:
        """The same with as many steps as `epochs` of so many rows need, rounded up."""
        if self.epochs is None:
            return self
        steps = math.ceil(self.epochs * rows_per_epoch * self.context_length / self.global_batch_tokens)
        return type(self)(**{**dict(self), "epochs": None, "steps": steps})

    @property
    def length(self) -> str:
        """How long it trains, in words."""
        return f"{self.epochs:g} epochs" if self.epochs is not None else f"{self.total_steps:,} steps"

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError(f"both betas must lie in [0, 1), got {value[0]:g} and {value[1]:g}")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        given = [name for name in LENGTHS if getattr(self, name) is not None]
        if len(given) != 1:
            both = " and ".join(given) or "none of steps, tokens and epochs"
            raise ValueError(f"{both} given; give exactly one of them, such as --training.steps")
        rows = self.context_length * (self.micro_batch_size or 1)
        if self.global_batch_tokens % rows:
            factors = (
                "context_length" if self.micro_batch_size is None else "context_length x micro_batch_size"
            )
            raise ValueError(
                f"global_batch_tokens {self.global_batch_tokens} is not a multiple of {factors} = {rows}; "
                f"give --training.global-batch-tokens {max(1, round(self.global_batch_tokens / rows)) * rows}"
            )
        if self.epochs is None and self.total_warmup_steps > self.total_steps:
            raise ValueError(
                f"warmup_steps {self.total_warmup_steps} exceeds the {self.total_steps} steps; "
                "lower --training.warmup-steps"
            )
        return self
