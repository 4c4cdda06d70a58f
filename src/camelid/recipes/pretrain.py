"""The recipe of `camelid pretrain`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from camelid.recipes.data import TextData
from camelid.recipes.model_shape import ModelShape
from camelid.recipes.parallel import Parallel
from camelid.recipes.recipe import Recipe
from camelid.recipes.settings import Settings, SinglePath
from camelid.recipes.training import Training

DECODER_OBJECTIVES = ("causal", "prefix_lm")


class PretrainObjective(Settings):
    """The pretraining objective on raw text (arXiv:1910.10683, section 3.3; docs/objectives.md)."""

    kind: Literal["causal", "span", "iid", "drop", "bert", "mass", "deshuffle", "prefix_lm"] | None = Field(
        default=None,
        description="kind of objective; by default causal (the next token), or span if the model has an "
        "encoder",
    )
    noise_density: float = Field(default=0.15, gt=0, lt=1, description="share of tokens that are corrupted")
    mean_span: float = Field(default=3.0, ge=1, description="mean length of a corrupted span, in tokens")


class PretrainRecipe(Recipe):
    """Train a new model on raw text."""

    stage: Literal["pretrain"] = Field(default="pretrain", description="the verb that this recipe is for")
    data: TextData = Field(description="text: files, folders, or rows with `text`")
    tokenizer: SinglePath = Field(
        description="folder with a tokenizer, such as a tokenizer run or any checkpoint"
    )
    model: ModelShape = Field(default=ModelShape(), description="shape of the model")
    objective: PretrainObjective = Field(default=PretrainObjective(), description="pretraining objective")
    training: Training = Field(description="batches, optimiser, schedule")
    parallel: Parallel = Field(default=Parallel(), description="several processes")
    prediction: SinglePath | None = Field(
        default=None,
        description="a prediction.json of camelid scale: kept with the run, whose report says hit or miss",
    )
    seed: int = Field(default=0, ge=0, description="seed of the initial weights and of the data order")

    @property
    def objective_kind(self) -> str:
        """The kind of objective; by default the usual one for the model."""
        return self.objective.kind or ("span" if self.model.has_encoder else "causal")

    @model_validator(mode="after")
    def _objective_fits_the_model(self) -> Self:
        kind, encoder = self.objective_kind, self.model.has_encoder
        if kind == "causal" if encoder else kind not in DECODER_OBJECTIVES:
            others = "all others" if encoder else " and ".join(DECODER_OBJECTIVES)
            raise ValueError(
                f"objective.kind {kind} does not work {'with' if encoder else 'without'} an encoder; "
                f"allowed: {others} (--objective.kind)"
            )
        return self

    @model_validator(mode="after")
    def _rows_fit_the_model(self) -> Self:
        if self.training.context_length > self.model.context_length:
            raise ValueError(
                f"training.context_length {self.training.context_length} exceeds "
                f"model.context_length {self.model.context_length}; raise it with "
                f"--model.context-length {self.training.context_length} or lower --training.context-length"
            )
        return self
