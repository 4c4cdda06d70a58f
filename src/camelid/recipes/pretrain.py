"""The recipe of `camelid pretrain`."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from camelid.recipes.data import TextData
from camelid.recipes.model_shape import ModelShape
from camelid.recipes.recipe import Recipe
from camelid.recipes.settings import Settings
from camelid.recipes.training import Training

DECODER_OBJECTIVES = ("causal", "prefix_lm")


class PretrainObjective(Settings):
    """What a model learns to foretell of raw text (arXiv:1910.10683, section 3.3; docs/objectives.md)."""

    kind: Literal["causal", "span", "iid", "drop", "bert", "mass", "deshuffle", "prefix_lm"] | None = Field(
        default=None,
        description="left out: the next token (causal), and span corruption where the model has an encoder",
    )
    noise_density: float = Field(default=0.15, gt=0, lt=1, description="share of the tokens that is noise")
    mean_span: float = Field(default=3.0, ge=1, description="tokens of a span of noise in the mean")


class PretrainRecipe(Recipe):
    """Train a new model on raw text."""

    stage: Literal["pretrain"] = Field(default="pretrain", description="the verb that this recipe is for")
    data: TextData = Field(description="text: files, folders, or rows with `text`")
    tokenizer: Path = Field(description="folder with a tokenizer: a tokenizer run or any checkpoint")
    model: ModelShape = Field(default=ModelShape(), description="shape of the model")
    objective: PretrainObjective = Field(
        default=PretrainObjective(), description="what the model learns to foretell"
    )
    training: Training = Field(description="batches, optimiser, schedule")
    seed: int = Field(default=0, ge=0, description="first weights and order of the data")

    @property
    def objective_kind(self) -> str:
        """The objective, or the usual one of the model."""
        return self.objective.kind or ("span" if self.model.has_encoder else "causal")

    @model_validator(mode="after")
    def _objective_fits_the_model(self) -> Self:
        kind, encoder = self.objective_kind, self.model.has_encoder
        if kind == "causal" if encoder else kind not in DECODER_OBJECTIVES:
            others = "all but causal" if encoder else " and ".join(DECODER_OBJECTIVES)
            raise ValueError(
                f"objective.kind {kind} is none for a model {'with' if encoder else 'without'} an encoder, which takes "
                f"{others} (--objective.kind)"
            )
        return self

    @model_validator(mode="after")
    def _rows_fit_the_model(self) -> Self:
        if self.training.context_length > self.model.context_length:
            raise ValueError(
                f"training.context_length {self.training.context_length} exceeds model.context_length {self.model.context_length}; "
                f"give --model.context-length {self.training.context_length} or a shorter --training.context-length"
            )
        return self
