"""The recipe of `camelid tune`."""

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from camelid.recipes.data import MixedData
from camelid.recipes.distill import DistillSettings
from camelid.recipes.lora import LoRASettings
from camelid.recipes.markers import MarkerTexts
from camelid.recipes.parallel import Parallel
from camelid.recipes.recipe import Recipe
from camelid.recipes.settings import FREE, ModelName, SinglePath
from camelid.recipes.training import Training


class TuneRecipe(Recipe):
    """Tune a model on conversations (loss on the assistant's turns only) or on pairs of input and target."""

    leading: ClassVar[tuple[str, ...]] = ("model",)

    stage: Literal["tune"] = Field(default="tune", description="the verb that this recipe is for")
    model: ModelName = Field(description="checkpoint folder or hub name to start from")
    data: MixedData = Field(
        description="conversations (Alpaca, ShareGPT or OpenAI rows, ...), comparisons, or rows of the task"
    )
    markers: MarkerTexts = Field(
        default=MarkerTexts(),
        description="conditional training: a text before each answer that says whether it is a good one",
    )
    chat_template: SinglePath | None = Field(
        default=None,
        description="Jinja file with the form of conversations, kept with the result; by default the model's",
    )
    task: str = Field(
        default="chat",
        description="kind of rows: chat, pairs (`input` and `target`), or the name of one of T5's tasks, "
        "such as sst2",
    )
    input_weight: float = Field(
        default=0.0,
        ge=0,
        description="pairs in a decoder: loss weight of the input tokens; GPT-1 uses 0.5",
    )
    too_long: Literal["error", "drop", "cut"] = Field(
        default="error",
        description="rows longer than the context: fail, drop them, or keep the whole turns (of pairs, the "
        "tokens) that fit",
    )
    show: int = Field(
        default=2,
        ge=0,
        description="rows shown at the start, with the tokens that are trained marked",
        json_schema_extra=FREE,
    )
    lora: LoRASettings = Field(default=LoRASettings(), description="train an adapter instead of all weights")
    distill: DistillSettings = Field(
        default=DistillSettings(), description="learn from a teacher's distributions"
    )
    training: Training = Field(description="batches, optimiser, schedule")
    parallel: Parallel = Field(default=Parallel(), description="several processes")
    seed: int = Field(default=0, ge=0, description="seed of the data order")
    licence: str | None = Field(
        default=None,
        description="licence of the model to start from; by default what its folder states",
        json_schema_extra=FREE,
    )

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        from camelid.data.read.text_to_text import TASKS

        if value not in ("chat", "pairs", *TASKS):
            raise ValueError(f"no task {value!r}; allowed: chat, pairs, {', '.join(TASKS)}")
        return value

    @model_validator(mode="after")
    def _markers_are_for_conversations(self) -> Self:
        if self.task != "chat" and self.markers.texts:
            raise ValueError(
                f"markers are for conversations, and the task is {self.task}; remove one of them"
            )
        return self

    @model_validator(mode="after")
    def _input_weight_is_for_pairs(self) -> Self:
        if self.task == "chat" and self.input_weight:
            raise ValueError(
                "input_weight is for pairs; in conversations the chat template decides what is trained; "
                "remove it"
            )
        return self

    @model_validator(mode="after")
    def _distillation_needs_a_teacher(self) -> Self:
        if self.distill.teacher is None and self.distill != DistillSettings():
            raise ValueError(
                "distill.teacher is not given, so there is nobody to learn from; name its folder"
            )
        return self

    @model_validator(mode="after")
    def _adapters_need_a_rank(self) -> Self:
        if self.lora.rank is None and self.lora.model_fields_set - {"rank"} and self.lora != LoRASettings():
            raise ValueError("lora.rank is not given, so nothing is adapted; give --lora.rank 8, for example")
        return self
