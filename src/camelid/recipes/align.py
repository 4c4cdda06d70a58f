"""The recipe of `camelid align`."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from camelid.recipes.engine import EngineSettings
from camelid.recipes.evaluate import REPEATED, CalculatorName
from camelid.recipes.lora import LoRASettings
from camelid.recipes.parallel import Parallel
from camelid.recipes.recipe import Recipe
from camelid.recipes.rollouts import GRPOSettings, PPOSettings
from camelid.recipes.settings import ModelName, Paths, Settings, cluster_field
from camelid.recipes.training import Training

MethodName = Literal["verifier", "reward", "dpo", "ppo", "grpo", "best-of-n"]


class VerifierSettings(Settings):
    """What a verifier is trained on (Cobbe et al., arXiv:2110.14168, section 4)."""

    every_token: bool = Field(
        default=True,
        description="predict the label after every token of a solution, not only after the last one",
    )
    language: Literal["reference", "right", "none"] = Field(
        default="reference",
        description="texts of the language-model loss that is trained along, in equal parts: the worked "
        "steps of the questions, the sampled solutions that are right, or none",
    )


class RewardSettings(Settings):
    """The ranking loss of a reward model (InstructGPT, arXiv:2203.02155, equation 1)."""

    margin: float = Field(
        default=0.0,
        ge=0,
        description="how far apart the rewards of two answers should be for each unit of their difference in "
        "rating, with rows that rate them (LLaMA 2, arXiv:2307.09288)",
    )
    centring: float = Field(
        default=0.0,
        ge=0,
        description="weight of the squared sum of both rewards, which keeps their mean near 0; 0.01 in "
        "arXiv:2312.09244",
    )


class DPOSettings(Settings):
    """The loss on comparisons (Rafailov et al., arXiv:2305.18290)."""

    beta: float = Field(
        default=0.1, gt=0, description="how strongly the policy is held to the model that it begins as"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="share of comparisons that are taken to be the wrong way round"
    )
    length_normalised: bool = Field(
        default=False, description="divide the log-ratio of an answer by its number of tokens"
    )


class BestOfNSettings(Settings):
    """Rounds of best-of-n (ReST-EM, arXiv:2312.06585); `samples` is n."""

    rounds: int = Field(
        default=1, gt=0, description="rounds of sampling and tuning; several are expert iteration"
    )
    keep: int = Field(
        default=1,
        gt=0,
        description="different answers to a question that are tuned on at most, the best ones",
    )
    from_base: bool = Field(
        default=False, description="tune the first model in every round, instead of the last round's"
    )
    allow_cut: bool = Field(
        default=False, description="tune on answers that end at the limit, too, as where length is fixed"
    )


class AlignRecipe(Recipe):
    """Train on how good answers are: a policy by comparisons or grades, or a model that rates answers."""

    leading: ClassVar[tuple[str, ...]] = ("model",)

    stage: Literal["align"] = Field(default="align", description="the verb that this recipe is for")
    method: MethodName = Field(
        description="what is trained; verifier: a model that rates solutions; reward: a model that rates "
        "answers, on comparisons; dpo: the model itself, on comparisons; ppo, grpo: the model itself, by the "
        "rewards of its own answers; best-of-n: the model itself, on the best of its own answers"
    )
    model: ModelName = Field(
        description="checkpoint folder or hub name whose weights training begins with; it also writes the "
        "solutions"
    )
    task: tuple[str, ...] = Field(
        default=(),
        description="training questions, such as world/sums/train, gsm8k with its --data, or a JSON(L) file; "
        "may be repeated",
        json_schema_extra=REPEATED,
    )
    data: Paths = Field(
        default=(),
        description="dataset files of the published tasks, one for each such --task in the same order",
        json_schema_extra=REPEATED,
    )
    comparisons: Paths = Field(
        default=(),
        description="dpo, reward: rows with better and worse answers, such as `chosen` and "
        "`rejected`, or `answers` with scores",
    )
    pairs_per_prompt: int | None = Field(
        default=None,
        gt=0,
        description="dpo, reward: at most so many pairs of a row's answers, drawn by the prompt's words; "
        "by default all",
    )
    prompts: Paths = Field(
        default=(),
        description="ppo, grpo: rows or texts to answer, beside --task or instead; see --rewarded-by",
    )
    rewarded_by: str | None = Field(
        default=None,
        description="ppo, grpo, best-of-n: what rewards answers, FILE.py:NAME or a reward model; by default "
        "the task's grader",
    )
    too_long: Literal["error", "drop"] = Field(
        default="error",
        description="rows that exceed the context, and prompts of ppo and grpo that leave no room for "
        "max_new_tokens: fail, or drop them",
    )
    skip_bad_rows: bool = Field(
        default=False,
        description="skip malformed rows of comparisons and prompts, counting them, instead of stopping",
    )
    limit: int | None = Field(
        default=None,
        gt=0,
        description="only the first N questions of each task (the world has as many as asked), N prompts, or "
        "N rows of comparisons",
    )
    program: Literal["direct", "few_shot", "chain_of_thought"] | None = Field(
        default=None, description="prompting method; by default direct"
    )
    chat: bool = Field(default=False, description="ask in the model's chat template")
    shots: int = Field(default=0, ge=0, description="solved examples before each question")
    exemplars: Path | None = Field(
        default=None,
        description="file of the examples, rows like the task's; the world's tasks have built-in ones",
    )
    max_new_tokens: int | None = Field(default=None, gt=0, description="most tokens in a solution")
    calculator: CalculatorName | None = Field(
        default=None, description="compute the arithmetic in solutions, as in `camelid eval`"
    )
    samples: int = Field(default=100, ge=2, description="solutions of each question")
    temperature: float = Field(default=0.7, gt=0, description="temperature of the solutions")
    solutions: Path | None = Field(
        default=None,
        description="folder of the sampled solutions, a JSON line for each question; what stands there is "
        "not asked again; by default OUT-solutions",
    )
    verifier: VerifierSettings = Field(
        default=VerifierSettings(), description="method verifier: what is trained, and what measures it"
    )
    reward: RewardSettings = Field(default=RewardSettings(), description="method reward: the loss")
    dpo: DPOSettings = Field(default=DPOSettings(), description="method dpo: the loss")
    ppo: PPOSettings = Field(default=PPOSettings(), description="method ppo: rollouts and the loss")
    grpo: GRPOSettings = Field(default=GRPOSettings(), description="method grpo: rollouts and the loss")
    best_of_n: BestOfNSettings = Field(
        default=BestOfNSettings(), description="method best-of-n: rounds, and what is kept"
    )
    lora: LoRASettings = Field(
        default=LoRASettings(),
        description="dpo, ppo, grpo, reward: train an adapter instead of all weights, with --lora.rank; "
        "a reward model's is merged at the end",
    )
    held_out: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="share of the questions or comparisons that measure the result and do not train it",
    )
    training: Training = Field(description="batches, optimiser, schedule")
    parallel: Parallel = Field(default=Parallel(), description="how several processes share the run")
    seed: int = Field(default=0, ge=0, description="seed of the data order")
    engine: EngineSettings = Field(
        default=EngineSettings(), description="how the model runs on this machine while it writes solutions"
    )
    on: str | None = cluster_field("sample answers")

    @property
    def solutions_folder(self) -> Path:
        """Where the sampled solutions are."""
        return self.solutions or self.out.with_name(f"{self.out.name}-solutions")

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        if self.method in ("ppo", "grpo") and not (self.task or self.prompts):
            raise ValueError("there is nothing to ask; give --task NAME|FILE, or --prompts FILE")
        if self.prompts and self.method not in ("ppo", "grpo"):
            raise ValueError(
                f"{self.method} takes no --prompts; for the best of several answers to them: camelid make "
                "preferences, then tune on its folder"
            )
        if self.prompts and self.rewarded_by is None:
            raise ValueError("prompts have no grader; give --rewarded-by FILE.py:NAME or a reward model")
        if self.method in ("verifier", "best-of-n") and not self.task:
            raise ValueError("there are no questions to solve; give --task NAME|FILE")
        if self.method in ("dpo", "reward") and not self.comparisons:
            raise ValueError("there are no comparisons to learn from; give --comparisons FILE")
        if self.engine.adapter is not None:
            raise ValueError(
                "engine.adapter would write the solutions, but training begins with the model without it; "
                "merge them first: camelid merge MODEL ADAPTER OUT"
            )
        return self
