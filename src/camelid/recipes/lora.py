"""Settings of low-rank adapters, shared by the stages that train."""

from typing import Literal

from pydantic import Field

from camelid.recipes.settings import Settings


class LoRASettings(Settings):
    """Low-rank adapters (LoRA, arXiv:2106.09685) instead of training all weights."""

    rank: int | None = Field(
        default=None,
        gt=0,
        description="rank of the adapter that is trained while the model stays as it is; by default all "
        "weights are trained, without an adapter",
    )
    alpha: float = Field(default=16.0, gt=0, description="strength: the update counts alpha / rank times")
    rank_stabilised: bool = Field(
        default=False, description="count it alpha / sqrt(rank) times (rsLoRA, arXiv:2312.03732)"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of an adapter's inputs dropped")
    base: Literal["stored", "nf4"] = Field(
        default="stored",
        description="weights of the model while the adapter is trained: as stored (a quantised folder stays "
        "quantised), or rounded to 4 bits as they are read (QLoRA, arXiv:2305.14314)",
    )
    targets: tuple[str, ...] = Field(
        default=("*layers.*_proj",),
        min_length=1,
        description="patterns of the linears that are adapted, such as '*.q_proj' '*.v_proj'; `!` excludes",
    )
