"""The recipe of `camelid eval`."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field
from pydantic.config import JsonDict

from camelid.recipes.engine import EngineSettings
from camelid.recipes.recipe import Recipe
from camelid.recipes.settings import ModelName, Paths

Convention = Literal["overlapping", "papers", "llama.cpp"]
"""The windows in which a perplexity is taken, see `engine.conventions`."""
ProgramName = Literal["direct", "few_shot", "chain_of_thought", "likelihood"]
REPEATED: JsonDict = {"repeated": True}
"""Of a flag that takes one value each time it is given."""


class EvaluateRecipe(Recipe):
    """Measure a model: accuracy with its interval on tasks, perplexity and bits per byte on text."""

    leading: ClassVar[tuple[str, ...]] = ("model",)

    stage: Literal["eval"] = Field(default="eval", description="the verb that this recipe is for")
    model: ModelName = Field(
        description="a model folder, a hub name or the URL of an OpenAI-compatible server"
    )
    out: Path = Field(
        description="folder for results.json and one JSONL line per question; the same call goes on where it stopped"
    )
    task: tuple[str, ...] = Field(
        default=(),
        description="a built-in task such as world/coin_flip, a published one such as lambada with its --data, or a "
        "JSON(L) file of questions; can be given again",
        json_schema_extra=REPEATED,
    )
    data: Paths = Field(
        default=(),
        description="the rows of a published task; one for each such --task, in their order",
        json_schema_extra=REPEATED,
    )
    text: Paths = Field(
        default=(),
        description="a text file, a folder of them or rows with `text`, to measure perplexity on; can be given again",
        json_schema_extra=REPEATED,
    )
    perplexity: Convention = Field(
        default="overlapping",
        description="the windows of a text: overlapping, so that every token is predicted once with at least half a context "
        "before it; or as published tables have it, of papers (2048 tokens end to end) or llama.cpp (second halves of 512)",
    )
    program: ProgramName | None = Field(
        default=None, description="how to ask; left out: directly, and a published task as it was published"
    )
    chat: bool = Field(default=False, description="ask in the model's chat template")
    shots: int = Field(default=0, description="solved questions to show before each one")
    exemplars: Path | None = Field(
        default=None,
        description="a file to take them from, of rows like the task's; the world's tasks have their own",
    )
    seed: int | None = Field(
        default=None,
        description="draw exemplars again for each question by this seed, as published tasks do by seed 0; left out: the first",
    )
    limit: int | None = Field(default=None, description="ask the first questions of each task only")
    max_new_tokens: int | None = Field(default=None, description="length limit of a reply")
    answer_context: bool = Field(
        default=False, description="likelihood: also divide by each choice's probability without its question"
    )
    allow_cut: bool = Field(
        default=False, description="only warn where every reply is empty or was cut at the length limit"
    )
    engine: EngineSettings = Field(default=EngineSettings(), description="how the model runs on this machine")
