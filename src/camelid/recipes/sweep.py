"""The recipe of `camelid scale sweep`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from camelid.recipes.recipe import Recipe
from camelid.recipes.settings import FREE, Paths, SinglePath
from camelid.recipes.training import OptimizerName


class SweepRecipe(Recipe):
    """Train a ladder of small models, fit a scaling law, and predict a larger model before training it."""

    stage: Literal["scale sweep"] = Field(
        default="scale sweep", description="the verb that this recipe is for"
    )
    minutes: float = Field(
        default=60.0, gt=0, description="time for everything; it sets how many tokens each model gets"
    )
    tokens_per_parameter: float | None = Field(
        default=None,
        gt=0,
        description="tokens for each parameter, halved to quadrupled; by default as minutes allow",
    )
    text: Paths = Field(default=(), description="files or folders of text; by default the generated world")
    validation: Paths = Field(
        default=(), description="files or folders to validate on; by default 1 % of the documents"
    )
    tokenizer: SinglePath | None = Field(
        default=None, description="folder with a tokenizer; by default one is learned from the text"
    )
    vocab_size: int = Field(default=512, ge=260, description="vocabulary size, if one is learned")
    widths: tuple[int, ...] = Field(
        default=(32, 48, 64, 80, 96), min_length=3, description="widths of the fitted models, ascending"
    )
    held_out_width: int = Field(
        default=112, gt=0, description="width of the model that is predicted, with 3 times the compute"
    )
    context_length: int = Field(default=128, gt=1, description="tokens per row")
    batch_tokens: int = Field(default=1024, gt=0, description="tokens per update")
    optimizer: OptimizerName = Field(default="muon", description="optimiser")
    learning_rate: float = Field(
        default=8e-3,
        gt=0,
        description="peak learning rate at base_width; at others it is rate x base / width",
    )
    base_width: int = Field(default=64, gt=0, description="width at which learning_rate was tuned")
    dtype: Literal["float32", "bfloat16"] = Field(default="float32", description="precision of activations")
    parallel: int = Field(
        default=1,
        ge=1,
        description="models trained at the same time, each with its share of the cores",
        json_schema_extra=FREE,
    )
    seed: int = Field(default=0, ge=0, description="seed of weights, data order and resamples")

    @model_validator(mode="after")
    def _whole_rows(self) -> Self:
        if self.batch_tokens % self.context_length:
            raise ValueError(
                f"batch_tokens {self.batch_tokens} is not a multiple of context_length {self.context_length}"
            )
        if self.validation and not self.text:
            raise ValueError("validation files need --text; the generated world has its own")
        return self
