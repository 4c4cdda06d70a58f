"""One optimiser run: batches, optimiser, schedule, checkpoints."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from camelid.recipes.settings import Settings

OptimizerName = Literal["adamw", "muon", "adafactor"]
ScheduleName = Literal["cosine", "linear", "wsd", "inverse_sqrt", "constant"]
TrackerName = Literal["tensorboard", "wandb"]


class Training(Settings):
    """One optimiser run over batches of a fixed number of tokens."""

    steps: int | None = Field(default=None, gt=0, description="updates to make; give this or tokens")
    tokens: int | None = Field(default=None, gt=0, description="tokens to see; give this or steps")
    global_batch_tokens: int = Field(
        default=16_384, gt=0, description="tokens of one update, over all processes"
    )
    micro_batch_size: int | None = Field(
        default=None,
        gt=0,
        description="rows computed at once, the rest is accumulated; left out: what suits the machine",
    )
    context_length: int = Field(default=512, gt=1, description="tokens of one row")
    optimizer: OptimizerName = Field(
        default="adamw",
        description="muon: orthogonalised updates of the layers' matrices, AdamW for the rest; adafactor: T5's",
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate")
    min_learning_rate_ratio: float = Field(
        default=0.1, ge=0, le=1, description="last learning rate as a share of the peak"
    )
    schedule: ScheduleName = Field(
        default="cosine",
        description="learning rate after the warm-up; wsd: warm-up, stable, decay; inverse_sqrt: T5's",
    )
    warmup_steps: int | None = Field(
        default=None,
        ge=0,
        description="steps of linear warm-up, for inverse_sqrt of constant rate; left out: warmup_fraction",
    )
    warmup_fraction: float = Field(default=0.02, ge=0, lt=1, description="warm-up as a share of all steps")
    decay_fraction: float = Field(
        default=0.2, gt=0, le=1, description="last share of the steps in which wsd decays"
    )
    weight_decay: float = Field(
        default=0.1,
        ge=0,
        description="decay of matrices; norms and biases have none, nor has T5 with adafactor",
    )
    betas: tuple[float, float] = Field(
        default=(0.9, 0.95), description="AdamW's averaging of gradient and its square"
    )
    eps: float = Field(default=1e-8, gt=0, description="AdamW's epsilon")
    gradient_clip: float = Field(default=1.0, ge=0, description="largest norm of the gradient; 0: no limit")
    z_loss: float = Field(
        default=0.0, ge=0, description="weight of log(Z)^2, Z the softmax's normaliser; PaLM takes 1e-4"
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto",
        description="of activations, the weights stay float32; auto: bfloat16, or float32 on a CPU that computes it faster",
    )
    compile: Literal["auto"] | bool = Field(
        default="auto",
        description="torch.compile; auto: where a compiler works",
    )
    recompute_activations: bool = Field(
        default=False, description="save memory: compute activations again going backward"
    )
    validate_every: int = Field(default=100, gt=0, description="steps between validations")
    checkpoint_every: int = Field(default=100, gt=0, description="steps between checkpoints")
    keep_checkpoints: int = Field(default=2, gt=0, description="newest checkpoints to keep")
    track: tuple[TrackerName, ...] = Field(
        default=(), description="tools that are given the curves too, beside metrics.jsonl"
    )

    @property
    def total_steps(self) -> int:
        """Number of updates: `steps`, or as many as see at least `tokens`."""
        if self.steps is not None:
            return self.steps
        assert self.tokens is not None  # the validator below asks for one of the two
        return -(-self.tokens // self.global_batch_tokens)

    @property
    def total_warmup_steps(self) -> int:
        """Number of warm-up updates."""
        return (
            self.warmup_steps
            if self.warmup_steps is not None
            else round(self.total_steps * self.warmup_fraction)
        )

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError(f"both betas must lie in [0, 1), got {value[0]:g} and {value[1]:g}")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.steps is None) == (self.tokens is None):
            given = "neither" if self.steps is None else "both"
            raise ValueError(
                f"{given} of steps and tokens given; give exactly one: --training.steps or --training.tokens"
            )
        rows = self.context_length * (self.micro_batch_size or 1)
        if self.global_batch_tokens % rows:
            factors = (
                "context_length" if self.micro_batch_size is None else "context_length x micro_batch_size"
            )
            raise ValueError(
                f"global_batch_tokens {self.global_batch_tokens} is no multiple of {factors} = "
                f"{rows}; give --training.global-batch-tokens {max(1, round(self.global_batch_tokens / rows)) * rows}"
            )
        if self.total_warmup_steps > self.total_steps:
            raise ValueError(
                f"warmup_steps {self.total_warmup_steps} exceeds the {self.total_steps} steps; give a smaller --training.warmup-steps"
            )
        return self
