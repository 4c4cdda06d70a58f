"""The recipe of `camelid tune`."""

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from camelid.recipes.data import TextData
from camelid.recipes.recipe import Recipe
from camelid.recipes.settings import ModelName
from camelid.recipes.training import Training


class TuneRecipe(Recipe):
    """Tune a model on conversations, where the loss counts the assistant's turns alone, or on pairs of input and target."""

    leading: ClassVar[tuple[str, ...]] = ("model",)

    stage: Literal["tune"] = Field(default="tune", description="the verb that this recipe is for")
    model: ModelName = Field(description="checkpoint folder or hub name to start from")
    data: TextData = Field(description="conversations: Alpaca, ShareGPT or OpenAI rows; or the task's rows")
    task: str = Field(
        default="chat",
        description="what the rows are: chat, pairs (`input` and `target`), or by name one of T5's tasks, sst2 for one",
    )
    input_weight: float = Field(
        default=0.0,
        ge=0,
        description="weight of each input token's loss where a decoder learns pairs; GPT-1 takes 0.5",
    )
    too_long: Literal["error", "drop", "cut"] = Field(
        default="error",
        description="rows beyond the context: stop, leave out, or keep the whole turns (of pairs the tokens) that fit",
    )
    training: Training = Field(description="batches, optimiser, schedule")
    seed: int = Field(default=0, ge=0, description="order of the data")

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        from camelid.data.read.text_to_text import TASKS

        if value not in ("chat", "pairs", *TASKS):
            raise ValueError(f"no task {value!r}; known are chat, pairs, {', '.join(TASKS)}")
        return value

    @model_validator(mode="after")
    def _chat_has_its_own_weights(self) -> Self:
        if self.task == "chat" and self.input_weight:
            raise ValueError(
                "input_weight is for pairs; in conversations the chat template says what is trained"
            )
        return self
