"""The recipe of `camelid make clean`."""

from typing import ClassVar, Literal

from pydantic import Field

from camelid.recipes.recipe import Recipe
from camelid.recipes.settings import FREE, ModelName, Paths


class CleanRecipe(Recipe):
    """Clean threads that people shared, as Vicuna's were; `camelid tune` takes the folder."""

    leading: ClassVar[tuple[str, ...]] = ("files",)

    stage: Literal["make clean"] = Field(default="make clean", description="the verb that this recipe is for")
    files: Paths = Field(
        min_length=1, description="dumps of threads: JSON or JSON lines with `conversations` or `messages`"
    )
    tokenizer: ModelName | None = Field(
        default=None,
        description="model to be tuned: long threads are split in its tokens, as its chat template renders "
        "them; by default they are not split",
    )
    context_length: int = Field(default=2048, ge=16, description="most tokens of a row; needs --tokenizer")
    turn_tokens: int | None = Field(
        default=None,
        ge=0,
        description="tokens added for each turn, instead of those of the chat template",
    )
    languages: tuple[str, ...] = Field(
        default=(),
        description="languages to keep, such as en de; unknown: texts too short to tell; by default all",
    )
    blocked: tuple[str, ...] = Field(
        default=("openai", "chatgpt"),
        description="words for which a thread is dropped, in any case; without values none",
    )
    refusals: bool = Field(
        default=True, description="cut threads before an answer that refuses or speaks of itself as a model"
    )
    repeated_digits: bool = Field(
        default=False, description="drop threads with nine equal digits in a row, as FastChat can"
    )
    broken_lists: bool = Field(
        default=True, description="drop threads with a list that begins with 1. again and again"
    )
    min_characters: int = Field(default=16, ge=0, description="fewest characters of a thread")
    workers: int = Field(
        default=1, ge=1, description="processes that convert and split", json_schema_extra=FREE
    )
