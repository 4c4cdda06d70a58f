"""Settings of learning from sampled answers: rollouts, and the losses of PPO and GRPO."""

from typing import Literal, Self

from pydantic import Field, model_validator

from camelid.recipes.settings import Paths, Settings


class RolloutSettings(Settings):
    """Answers that the policy samples, and the updates that are made with them."""

    questions: int = Field(default=8, gt=0, description="questions of a rollout")
    group: int = Field(default=8, gt=0, description="answers sampled to each of them, at temperature 1")
    epochs: int = Field(default=1, gt=0, description="passes over the answers of a rollout")
    minibatches: int = Field(default=1, gt=0, description="updates in each of these passes")
    clip_low: float = Field(default=0.2, gt=0, lt=1, description="probability ratios count from 1 minus this")
    clip_high: float = Field(default=0.2, gt=0, description="probability ratios count up to 1 plus this")
    cut_reward: float | None = Field(
        default=None,
        description="reward of an answer that ends at the length limit, instead of its own",
    )
    allow_cut: bool = Field(
        default=False, description="go on though every answer ends at the limit, as where length is fixed"
    )
    largest_difference: float | None = Field(
        default=None,
        gt=0,
        description="stop if the trainer's log-probability of a sampled token differs more from the "
        "sampler's, in nats; by default 1e-4 in float32, and 1 in bfloat16",
    )
    importance_cap: float | None = Field(
        default=None,
        gt=0,
        description="weigh tokens by the ratio of the trainer's probability to the sampler's, at most this",
    )
    largest_kl: float = Field(
        default=100.0, gt=0, description="stop if answers are on average so many nats from the reference"
    )

    @property
    def updates(self) -> int:
        """Updates that are made with the answers of a rollout."""
        return self.epochs * self.minibatches

    @model_validator(mode="after")
    def _answers_for_all(self) -> Self:
        if self.questions * self.group % self.minibatches:
            raise ValueError(
                f"{self.questions} questions with {self.group} answers cannot be divided into "
                f"{self.minibatches} minibatches; choose a divisor of {self.questions * self.group}"
            )
        return self


class GRPOSettings(RolloutSettings):
    """GRPO (DeepSeekMath, arXiv:2402.03300, section 4.1)."""

    group: int = Field(default=8, ge=2, description="answers sampled to each question, at temperature 1")
    baseline: Literal["mean", "leave_one_out"] = Field(
        default="mean", description="rewards are compared with the mean of the group, or of the others in it"
    )
    divide_by_spread: bool = Field(
        default=True, description="divide advantages by the standard deviation of the group's rewards"
    )
    normalise: Literal["tokens", "answers"] = Field(
        default="tokens", description="mean over all tokens of the batch, or the mean of each answer's mean"
    )
    kl: float = Field(default=0.0, ge=0, description="weight of the KL divergence from the reference (k3)")


class PPOSettings(RolloutSettings):
    """PPO as in InstructGPT (arXiv:2203.02155, section 3.5 and appendix C.4)."""

    questions: int = Field(default=64, gt=0, description="questions of a rollout")
    group: int = Field(default=1, gt=0, description="answers sampled to each of them, at temperature 1")
    epochs: int = Field(default=4, gt=0, description="passes over the answers of a rollout")
    kl: float = Field(
        default=0.02, ge=0, description="penalty per token for each nat that it moves from the reference"
    )
    kl_target: float | None = Field(
        default=None,
        gt=0,
        description="adapt the penalty so that answers are so many nats from the reference; by default it "
        "is fixed",
    )
    kl_horizon: int = Field(default=10_000, gt=0, description="answers in which the penalty adapts")
    discount: float = Field(default=1.0, gt=0, le=1, description="gamma of the returns")
    smoothing: float = Field(
        default=0.95, ge=0, le=1, description="lambda of generalised advantage estimation"
    )
    whiten: Literal["advantages", "both", "none"] = Field(
        default="advantages",
        description="bring advantages, or rewards too (keeping their mean), to a variance of 1",
    )
    value_clip: float = Field(default=0.2, gt=0, description="values count within this of those before")
    value_weight: float = Field(default=0.1, ge=0, description="weight of the value loss")
    pretraining: Paths = Field(
        default=(), description="text whose language-model loss is trained along (PPO-ptx)"
    )
    pretraining_weight: float = Field(default=1.0, gt=0, description="weight of that loss")
    pretraining_rows: int = Field(default=8, gt=0, description="pieces of that text in each update")
