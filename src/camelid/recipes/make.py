"""The recipes of `camelid make`: what every maker takes, and what each adds."""

from typing import ClassVar, Literal

from pydantic import Field

from camelid.recipes.engine import EngineSettings
from camelid.recipes.recipe import Recipe
from camelid.recipes.server import ServerSettings
from camelid.recipes.settings import FREE, ModelName, Paths


class MakeRecipe(Recipe):
    """Rows made by a teacher: a model here, or one behind a URL."""

    teacher: ModelName = Field(
        description="the teacher: a model folder, a hub name or the URL of an OpenAI-compatible server"
    )
    seed: int = Field(default=0, ge=0, description="seed of the teacher's samples and of every draw")
    tries: int = Field(
        default=3,
        ge=1,
        description="attempts at a question whose reply is empty, cut, garbage, a loop or a refusal, each "
        "with another seed; at temperature 0 there is one",
        json_schema_extra=FREE,
    )
    least_kept: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="stop early, with the reason, if a smaller share than this of the last --window replies "
        "can be kept",
        json_schema_extra=FREE,
    )
    window: int = Field(
        default=200, ge=1, description="replies over which --least-kept is measured", json_schema_extra=FREE
    )
    licence: str | None = Field(
        default=None,
        description="licence of the teacher, for the card; by default what its folder states",
        json_schema_extra=FREE,
    )
    terms: str | None = Field(
        default=None,
        description="terms that the teacher's provider sets for its output, for the card",
        json_schema_extra=FREE,
    )
    engine: EngineSettings = Field(
        default=EngineSettings(), description="how the teacher runs on this machine", json_schema_extra=FREE
    )
    server: ServerSettings = Field(
        default=ServerSettings(), description="how a teacher behind a URL is asked", json_schema_extra=FREE
    )


class MakeAnswersRecipe(MakeRecipe):
    """Let a teacher answer questions; `camelid tune` takes the folder (Koala, GPT4All, sequence-level
    distillation)."""

    leading: ClassVar[tuple[str, ...]] = ("teacher", "prompts")

    stage: Literal["make answers"] = Field(
        default="make answers", description="the verb that this recipe is for"
    )
    prompts: Paths = Field(
        min_length=1,
        description="files of questions: rows with messages, conversations, prompt, question or instruction, "
        "or text with a question in each line",
    )
    skip_bad_rows: bool = Field(
        default=False, description="skip malformed rows, counting and listing them, instead of stopping"
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        description="only the first N questions; may be raised later",
        json_schema_extra=FREE,
    )
    system: str | None = Field(
        default=None, description="system message for questions that have none; stays in the rows"
    )
    max_new_tokens: int = Field(default=512, ge=1, description="most tokens in an answer")
    temperature: float = Field(default=0.7, ge=0, description="temperature of the answers; 0 is greedy")
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="sample from the fewest tokens of at least this probability"
    )
