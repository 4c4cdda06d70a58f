"""The recipes of `camelid make`: what every maker takes, and what each adds."""

from typing import ClassVar, Literal

from pydantic import Field

from camelid.recipes.engine import EngineSettings
from camelid.recipes.recipe import Recipe
from camelid.recipes.server import ServerSettings
from camelid.recipes.settings import FREE, ModelName, Paths, cluster_field


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
        description="stop early, with the reason, if a smaller share than this of the last --window replies, "
        "first attempts only, can be kept",
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
    on: str | None = cluster_field("answer")
    engine: EngineSettings = Field(
        default=EngineSettings(), description="how the teacher runs on this machine", json_schema_extra=FREE
    )
    server: ServerSettings = Field(
        default=ServerSettings(), description="how a teacher behind a URL is asked", json_schema_extra=FREE
    )


class AnsweringRecipe(MakeRecipe):
    """Answers to the questions of files."""

    leading: ClassVar[tuple[str, ...]] = ("teacher", "prompts")

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


class MakeAnswersRecipe(AnsweringRecipe):
    """Let a teacher answer questions; `camelid tune` takes the folder (Koala, GPT4All, sequence-level
    distillation)."""

    stage: Literal["make answers"] = Field(
        default="make answers", description="the verb that this recipe is for"
    )


class MakePreferencesRecipe(AnsweringRecipe):
    """Let a model answer each question several times, and rank its answers by a reward."""

    stage: Literal["make preferences"] = Field(
        default="make preferences", description="the verb that this recipe is for"
    )
    reward: str = Field(
        min_length=1,
        description="what ranks the answers: a function FILE.py:NAME, a reward model's folder, or a grader "
        "(exact, numeric, choice), which compares with the column `answer`",
        json_schema_extra=FREE,
    )
    samples: int = Field(default=4, ge=2, description="answers to each question", json_schema_extra=FREE)
    temperature: float = Field(default=1.0, gt=0, description="temperature of the answers")
    reward_seconds: float = Field(
        default=60.0, gt=0, description="time of a reward function for one answer", json_schema_extra=FREE
    )


class MakeSelfInstructRecipe(MakeRecipe):
    """Let a model write new instructions and their answers, from 175 seed tasks (Self-Instruct; in one step,
    Alpaca)."""

    leading: ClassVar[tuple[str, ...]] = ("teacher",)

    stage: Literal["make self-instruct"] = Field(
        default="make self-instruct", description="the verb that this recipe is for"
    )
    count: int = Field(
        default=1000, ge=1, description="new instructions; may be raised later", json_schema_extra=FREE
    )
    variant: Literal["self-instruct", "alpaca"] = Field(
        default="self-instruct",
        description="self-instruct: instruction, kind and instances in three steps; alpaca: all in one",
    )
    seeds: Paths = Field(
        default=(),
        max_length=1,
        description="seed tasks instead of our 175: rows with id, instruction, instances, is_classification",
    )
    batch: int = Field(default=16, ge=1, description="prompts of a round, drawn from the same pool")
    chat: bool = Field(default=False, description="send prompts as user messages instead of text to continue")
    max_new_tokens: int = Field(default=1024, ge=1, description="most tokens in a list of new instructions")
    temperature: float | None = Field(
        default=None,
        gt=0,
        description="temperature of new instructions; by default 0.7, in one step 1, as in the papers",
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="top-p of new instructions; by default 0.5, in one step 1"
    )
    presence_penalty: float | None = Field(
        default=None, ge=0, description="presence penalty of new instructions; by default 2, in one step 0"
    )
    novelty: float = Field(
        default=0.7, gt=0, le=1, description="ROUGE-L with any other instruction from which one is dropped"
    )


class MakeSelfChatRecipe(MakeRecipe):
    """Let a model write both sides of conversations about questions (Baize)."""

    leading: ClassVar[tuple[str, ...]] = ("teacher", "prompts")

    stage: Literal["make self-chat"] = Field(
        default="make self-chat", description="the verb that this recipe is for"
    )
    prompts: Paths = Field(
        min_length=1, description="files of questions that the conversations are about, as for make answers"
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
    chat: bool = Field(
        default=False, description="send the prompt as a user message instead of text to continue"
    )
    turns: int = Field(default=8, ge=1, description="most pairs of turns of a conversation")
    max_new_tokens: int = Field(default=1024, ge=1, description="most tokens in a transcript")
    temperature: float = Field(default=0.7, ge=0, description="temperature of the transcripts")
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="sample from the fewest tokens of at least this probability"
    )
