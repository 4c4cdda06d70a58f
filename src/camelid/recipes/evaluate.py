"""The recipe of `camelid eval`."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field
from pydantic.config import JsonDict

from camelid.recipes.engine import EngineSettings
from camelid.recipes.recipe import Recipe
from camelid.recipes.server import ServerSettings
from camelid.recipes.settings import ModelName, Paths, SinglePath, cluster_field

Convention = Literal["overlapping", "papers", "llama.cpp"]
"""How a text is cut into windows for its perplexity, see `engine.conventions`."""
ProgramName = Literal["direct", "few_shot", "chain_of_thought", "least_to_most", "likelihood"]
CalculatorName = Literal["annotations", "equations"]
WeightingName = Literal["majority", "sum", "normalised_sum", "average", "normalised_average"]
REPEATED: JsonDict = {"repeated": True}
"""Marks a flag that takes one value each time it is given."""


class EvaluateRecipe(Recipe):
    """Evaluate a model: accuracy with confidence intervals on tasks, perplexity and bits per byte on text."""

    leading: ClassVar[tuple[str, ...]] = ("model",)

    stage: Literal["eval"] = Field(default="eval", description="the verb that this recipe is for")
    model: ModelName = Field(
        description="a model folder, a hub name or the URL of an OpenAI-compatible server"
    )
    out: SinglePath = Field(
        description="folder for results.json and one JSON line per question; repeating the call resumes it"
    )
    task: tuple[str, ...] = Field(
        default=(),
        description="a built-in task such as world/coin_flip, a published one such as lambada with its "
        "--data, or a "
        "JSON(L) file of questions, or a Python file that defines TASK; may be repeated",
        json_schema_extra=REPEATED,
    )
    data: Paths = Field(
        default=(),
        description="dataset files of the published tasks, one for each such --task in the same order",
        json_schema_extra=REPEATED,
    )
    text: Paths = Field(
        default=(),
        description="text file, folder of them or rows with `text` to measure perplexity on; may be repeated",
        json_schema_extra=REPEATED,
    )
    perplexity: Convention = Field(
        default="overlapping",
        description="how a text is cut into windows: overlapping, where every token is predicted once with "
        "at least "
        "half a context before it; or the conventions of published tables, papers (2048 tokens end to end) "
        "or "
        "llama.cpp (second halves of 512)",
    )
    program: ProgramName | None = Field(
        default=None,
        description="prompting method; by default direct, and for a published task that of its publication",
    )
    chat: bool = Field(default=False, description="ask in the model's chat template")
    shots: int = Field(default=0, description="solved examples before each question")
    exemplars: Path | None = Field(
        default=None,
        description="file of the examples, rows like the task's; the world's tasks have built-in ones",
    )
    seed: int | None = Field(
        default=None,
        description="draw new examples for each question with this seed; by default the first ones, and "
        "seed 0 for "
        "published tasks",
    )
    limit: int | None = Field(default=None, description="ask only the first N questions of each task")
    max_new_tokens: int | None = Field(default=None, description="most tokens in a reply")
    samples: int = Field(
        default=1,
        ge=1,
        description="attempts at each question; the answer that most agree on is graded (self-consistency)",
    )
    temperature: float | None = Field(
        default=None,
        ge=0,
        description="temperature of generated text; by default 0, and 0.7 for several samples",
    )
    calculator: CalculatorName | None = Field(
        default=None,
        description="compute the arithmetic in replies: equations, after a reply is finished (Wei et al.), "
        "or "
        "annotations <<48/2=24>>, from which the model goes on (Cobbe et al.)",
    )
    weighting: WeightingName = Field(
        default="majority",
        description="how attempts are weighed: one vote each, or by their probability (Wang et al., table 1)",
    )
    verifier: ModelName | None = Field(
        default=None,
        description="a model from `camelid align --method verifier` or `reward`: the attempt that it rates "
        "highest is graded (best of N), and a page shows accuracy against N",
    )
    voters: int = Field(
        default=1,
        ge=1,
        description="verifier: so many of the attempts rated highest vote on the answer",
    )
    ladder: bool = Field(
        default=False,
        description="ask in every way that suits the task, with --samples N for self-consistency (default "
        "10), "
        "and write one page that compares them",
    )
    sensitivity: bool = Field(
        default=False,
        description="ask with other orders, choices, numbers and wordings of exemplars and triggers, and "
        "write one page of how much that changes",
    )
    variants: int = Field(
        default=8, ge=2, description="sensitivity: orders and choices of exemplars that are tried"
    )
    writers: Paths = Field(
        default=(),
        description="sensitivity: file of exemplars by another writer; may be repeated",
        json_schema_extra=REPEATED,
    )
    triggers: Path | None = Field(
        default=None, description="sensitivity: JSON file of triggers that ask for steps and for the answer"
    )
    answer_context: bool = Field(
        default=False, description="likelihood: divide by each choice's probability without the question"
    )
    allow_cut: bool = Field(
        default=False,
        description="warn instead of failing if every reply is empty or cut at the length limit",
    )
    on: str | None = cluster_field("answer")
    engine: EngineSettings = Field(default=EngineSettings(), description="how the model runs on this machine")
    server: ServerSettings = Field(default=ServerSettings(), description="how a model behind a URL is asked")
