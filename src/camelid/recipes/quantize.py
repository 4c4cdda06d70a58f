"""The recipe of `camelid quantize`."""

from typing import ClassVar, Literal

from pydantic import Field

from camelid.quant.choices import ALL_LINEARS, Bits, Method
from camelid.recipes.recipe import Recipe
from camelid.recipes.settings import ModelName, Paths, Settings, SinglePath


class Quantization(Settings):
    """The quantisation settings that all methods and bit widths share."""

    group_size: int | None = Field(
        default=None,
        description="number of adjacent weights that share a scale, -1 for a whole row; by default -1 at 8 "
        "bits, and at fewer "
        "bits the largest of 64, 32, 16 and 8 that fits the model",
    )
    select: tuple[str, ...] = Field(
        default=ALL_LINEARS,
        description="shell patterns over the linear layers to quantise; `!pattern` excludes",
    )
    dtype: Literal["bfloat16", "float16", "float32"] = Field(
        default="bfloat16",
        description="precision of all other weights (embedding, output projection, norms) and of the scales",
    )
    head_bits: Literal[8] | None = Field(
        default=None,
        description="bits of the output projection, which takes half of a small model's time; by default it "
        "stays in dtype",
    )
    calibration: Paths = Field(
        default=(), description="gptq, awq: files or folders of text like the model's intended input"
    )
    calibration_rows: int = Field(default=128, description="number of calibration sequences")
    calibration_length: int = Field(default=512, description="tokens in each calibration sequence")
    seed: int = Field(default=0, description="seed of the choice of calibration sequences")
    act_order: bool = Field(default=True, description="gptq: quantise columns with large inputs first")
    static_groups: bool = Field(
        default=True,
        description="gptq: compute scales from the original weights, not the updated ones; required by "
        "act_order",
    )
    true_sequential: bool = Field(
        default=True,
        description="gptq: within a layer, calibrate each linear on the outputs of those already quantised",
    )
    damping: float = Field(
        default=0.01, description="gptq: share of the Hessian's mean diagonal to add to its diagonal"
    )


class QuantizeRecipe(Quantization, Recipe):
    """Quantise a model's linear layers to 2, 3, 4 or 8 bits, in the public GPTQ layout."""

    leading: ClassVar[tuple[str, ...]] = ("model", "out")

    stage: Literal["quantize"] = Field(default="quantize", description="the verb that this recipe is for")
    model: ModelName = Field(description="checkpoint folder or hub name")
    out: SinglePath = Field(description="output folder; it must not exist, or be empty")
    bits: Bits = Field(default=4, description="bits per weight")
    method: Method = Field(
        default="rtn",
        description="rtn rounds every weight to the nearest code; gptq and awq use calibration text and "
        "lose less",
    )
