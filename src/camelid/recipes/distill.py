"""Settings of distillation, for tuning a student."""

from typing import Literal

from pydantic import Field

from camelid.recipes.settings import ModelName, Settings

Divergence = Literal["forward", "reverse", "jensen-shannon"]


class DistillSettings(Settings):
    """Learn from a teacher's distributions instead of, or beside, the tokens of the data."""

    teacher: ModelName | None = Field(
        default=None, description="checkpoint folder or hub name of the teacher, of the same vocabulary"
    )
    divergence: Divergence = Field(
        default="forward",
        description="forward: KL(teacher, student), as Hinton et al. 2015; reverse: KL(student, teacher), as "
        "MiniLLM; jensen-shannon: the mean of both against their middle, as GKD",
    )
    temperature: float = Field(
        default=1.0, gt=0, description="divides the logits of both; the loss counts its square times"
    )
    share: float = Field(
        default=1.0, gt=0, le=1, description="the teacher's part of the loss; the rest is the data's tokens"
    )
    on_policy: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the updates whose answers the student writes itself, at temperature 1, for the "
        "teacher to judge (GKD)",
    )
    max_new_tokens: int = Field(default=128, gt=0, description="most tokens of such an answer")
    top_k: int = Field(
        default=64,
        gt=0,
        description="most probable tokens of the teacher that are kept for each place; all others together "
        "count as one",
    )
