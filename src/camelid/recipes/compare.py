"""The recipe of `camelid compare`."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from camelid.quant.choices import METHODS, Bits, Method
from camelid.recipes.evaluate import Convention
from camelid.recipes.quantize import Quantization
from camelid.recipes.recipe import Recipe
from camelid.recipes.settings import ModelName, Paths, SinglePath, flag


class CompareRecipe(Quantization, Recipe):
    """Models side by side: size, how well each predicts a text and answers a task, speed, memory.

    The first model is the baseline for the others. With --bits, name one model: it is quantised by every
    method at each of these bit widths, each into its own folder, and compared with the results.
    """

    leading: ClassVar[tuple[str, ...]] = ("models",)

    stage: Literal["compare"] = Field(default="compare", description="the verb that this recipe is for")
    models: tuple[ModelName, ...] = Field(
        min_length=1,
        description="checkpoint folders or hub names; the first is the baseline",
    )
    out: SinglePath = Field(
        description="output folder: comparison.json, report.html and the quantised models"
    )
    text: Paths = Field(
        min_length=1,
        description="files or folders of text to predict, used neither for training nor for calibration",
    )
    perplexity: Convention = Field(
        default="overlapping",
        description="how the text is cut into windows: overlapping, or the conventions of published tables, "
        "papers or llama.cpp",
    )
    task: str | None = Field(
        default=None,
        description="also evaluate on a task, a name or a file as for camelid eval",
    )
    data: Path | None = Field(default=None, description="dataset file of a published task")
    limit: int | None = Field(default=None, description="ask only the first N questions of the task")
    chat: bool = Field(default=False, description="ask in the model's chat template")
    bits: tuple[Bits, ...] = Field(default=(), description="bit widths to quantise the model to and compare")
    methods: tuple[Method, ...] = Field(
        default=METHODS, min_length=1, description="quantisation methods to compare"
    )

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.task is None and (self.data or self.limit or self.chat):
            raise ValueError("--data, --limit and --chat need a task; name one with --task")
        if self.bits and len(self.models) > 1:
            raise ValueError(
                f"--bits quantises a single model, but {len(self.models)} are given; give one, or remove "
                f"--bits"
            )
        if not self.bits and (
            changed := sorted(self.model_fields_set & {*Quantization.model_fields, "methods"})
        ):
            flags = ", ".join(map(flag, changed))
            raise ValueError(f"{flags}: only used when quantising; add --bits, or remove it")
        return self
