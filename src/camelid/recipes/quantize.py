"""The recipe of `camelid quantize`."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from camelid.quant.choices import ALL_LINEARS, Bits, Method
from camelid.recipes.recipe import Recipe
from camelid.recipes.settings import ModelName, Paths, Settings


class Quantization(Settings):
    """How weights become codes, whatever the method and the number of bits."""

    group_size: int | None = Field(
        default=None,
        description="neighbouring weights that share a scale, -1 for a whole row; left out: -1 at 8 bits, and below the "
        "largest of 64, 32, 16 and 8 that fits the model",
    )
    select: tuple[str, ...] = Field(
        default=ALL_LINEARS, description="shell patterns over linears; `!pattern` leaves some out"
    )
    dtype: Literal["bfloat16", "float16", "float32"] = Field(
        default="bfloat16",
        description="of all that is not quantised (embedding, output projection, norms, scales)",
    )
    head_bits: Literal[8] | None = Field(
        default=None,
        description="of the output projection, which takes half of a small model's time; left out: it stays in dtype",
    )
    calibration: Paths = Field(
        default=(), description="files or folders of text like that which the model is to read"
    )
    calibration_rows: int = Field(default=128, description="stretches of text that are looked at")
    calibration_length: int = Field(default=512, description="tokens of each")
    seed: int = Field(default=0, description="of the draw of stretches")
    act_order: bool = Field(default=True, description="gptq: columns with large inputs first")
    static_groups: bool = Field(
        default=True,
        description="gptq: scales from the weights as they are, not as they become; needed with act_order",
    )
    true_sequential: bool = Field(
        default=True,
        description="gptq: linears of a layer see what the quantised ones before them in the layer make of the text",
    )
    damping: float = Field(
        default=0.01, description="gptq: share of the Hessian's mean diagonal that is added to its diagonal"
    )


class QuantizeRecipe(Quantization, Recipe):
    """Make a model small: its linears at 2, 3, 4 or 8 bits, in the public GPTQ layout."""

    leading: ClassVar[tuple[str, ...]] = ("model", "out")

    stage: Literal["quantize"] = Field(default="quantize", description="the verb that this recipe is for")
    model: ModelName = Field(description="a checkpoint folder or a name on the hub")
    out: Path = Field(description="the folder to write; it must not exist, or be empty")
    bits: Bits = Field(default=4, description="of each weight")
    method: Method = Field(
        default="rtn",
        description="rtn rounds every weight to the nearest code; gptq and awq look at calibration text and lose less",
    )
