"""The recipe of `camelid compare`."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from camelid.quant.choices import METHODS, Bits, Method
from camelid.recipes.evaluate import Convention
from camelid.recipes.quantize import Quantization
from camelid.recipes.recipe import Recipe
from camelid.recipes.settings import ModelName, Paths


class CompareRecipe(Quantization, Recipe):
    """Models side by side: size, how well each predicts a text and answers a task, speed, memory.

    Quantised and tuned models are compared with the first one named. With --bits, the one model that is named is quantised
    by every method at each of these numbers of bits, each into a folder of its own, and compared with what became of it.
    """

    leading: ClassVar[tuple[str, ...]] = ("models",)

    stage: Literal["compare"] = Field(default="compare", description="the verb that this recipe is for")
    models: tuple[ModelName, ...] = Field(
        min_length=1,
        description="checkpoint folders or names on the hub; the first is the one to compare with",
    )
    out: Path = Field(description="the folder to write: comparison.json, report.html, and what was quantised")
    text: Paths = Field(
        min_length=1, description="files or folders of text to predict, which no model was made from"
    )
    perplexity: Convention = Field(
        default="overlapping",
        description="the windows of that text: overlapping, or as published tables have it, of papers or llama.cpp",
    )
    task: str | None = Field(
        default=None,
        description="also ask the questions of a task, by name or from a file, as camelid eval does",
    )
    data: Path | None = Field(default=None, description="the rows of a published task")
    limit: int | None = Field(default=None, description="its first questions alone")
    chat: bool = Field(default=False, description="ask them in the model's chat template")
    bits: tuple[Bits, ...] = Field(default=(), description="quantise the model at each of these, and compare")
    methods: tuple[Method, ...] = Field(
        default=METHODS, min_length=1, description="the methods to quantise by"
    )

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.task is None and (self.data or self.limit or self.chat):
            raise ValueError("--data, --limit and --chat are of a task: name it with --task")
        if self.bits and len(self.models) > 1:
            raise ValueError(
                f"--bits quantises one model, and {len(self.models)} are named; name one, or leave out --bits"
            )
        if not self.bits and (
            changed := sorted(self.model_fields_set & {*Quantization.model_fields, "methods"})
        ):
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
            raise ValueError(f"{flags}: said of quantising; also say at how many --bits, or leave it out")
        return self
