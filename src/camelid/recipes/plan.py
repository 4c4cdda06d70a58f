"""The recipe of `camelid scale plan`."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from camelid.recipes.recipe import Recipe
from camelid.recipes.settings import Paths, SinglePath

BUDGETS = ("flops", "gpu_hours", "minutes")


class PlanRecipe(Recipe):
    """Plan a training run for a budget: model, tokens, batch, learning rate, cost, and its recipe."""

    stage: Literal["scale plan"] = Field(default="scale plan", description="the verb that this recipe is for")
    flops: float | None = Field(
        default=None, gt=0, description="budget in FLOPs; give this, gpu-hours or minutes"
    )
    gpu_hours: float | None = Field(default=None, gt=0, description="budget in hours of all GPUs together")
    minutes: float | None = Field(
        default=None, gt=0, description="budget in minutes on this machine, whose speed is measured"
    )
    gpu: Literal["H200", "H100", "A100", "L40S", "L4", "4090"] = Field(
        default="H100", description="kind of GPU, for time and money"
    )
    devices: int = Field(default=1, ge=1, description="number of GPUs")
    mfu: float = Field(default=0.4, gt=0, le=1, description="share of the GPUs' peak that training reaches")
    price: float | None = Field(default=None, gt=0, description="price of a GPU-hour, for the cost")
    memory: str | None = Field(
        default=None, description="memory of each device, such as 80GB, that training must fit"
    )
    law: SinglePath | None = Field(
        default=None,
        description="folder of camelid scale fit or sweep; by default Chinchilla's law, refitted",
    )
    inference_tokens: float = Field(
        default=0.0, ge=0, description="tokens that the model will read and write after training"
    )
    unique_tokens: float | None = Field(
        default=None, gt=0, description="tokens of text there are; more are repeats, which are worth less"
    )
    train: Paths = Field(default=(Path("data/text"),), description="text, for the recipe of the run")
    tokenizer: SinglePath | None = Field(default=None, description="folder with the run's tokenizer")
    vocab_size: int = Field(default=32_000, ge=260, description="vocabulary size, if no tokenizer is given")
    context_length: int = Field(default=2048, gt=1, description="tokens per row")

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) or 'no budget'} given; give exactly one of --flops, --gpu-hours and "
                "--minutes"
            )
        if self.minutes is not None and (self.devices > 1 or self.price is not None):
            raise ValueError(
                "--minutes are those of one process on this machine; give --gpu-hours or --flops for several "
                "devices or a price"
            )
        return self
