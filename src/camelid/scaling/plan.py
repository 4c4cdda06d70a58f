"""The best model size and number of tokens for a given training time."""

from dataclasses import dataclass

from camelid.recipes.model_shape import ModelShape

TOKENS_PER_PARAMETER = 20.0
"""Chinchilla's ratio (Hoffmann et al. 2022, arXiv:2203.15556, Table 3; Besiroglu et al. 2024,
arXiv:2404.10102, refit).
"""

LADDER = (
    (64, 2, 2),
    (96, 3, 3),
    (128, 4, 4),
    (192, 4, 3),
    (256, 4, 4),
    (320, 5, 5),
    (384, 6, 6),
    (512, 8, 8),
    (640, 10, 10),
    (768, 12, 12),
    (1024, 16, 16),
    (1536, 20, 24),
    (2048, 24, 32),
)
"""Width, layers, heads: steps of about 2x in parameters, with the proportions of GPT-2 and LLaMA."""


@dataclass(frozen=True)
class SizePlan:
    """A shape, the tokens to train it on, and the expected time in seconds."""

    shape: ModelShape
    parameters: int
    tokens: int
    seconds: float


def plan_training(
    seconds: float,
    flops_per_second: float,
    *,
    vocab_size: int,
    context_length: int,
    tokens_per_parameter: float = TOKENS_PER_PARAMETER,
) -> SizePlan:
    """The largest rung of the ladder that gets at least `tokens_per_parameter` tokens per parameter in the
    time.

    With F(N) training FLOPs per token (about 6 N), the budget C = seconds * flops_per_second pays for D = C /
    F(N) tokens. D / N falls as 1 / N^2, so this is the largest N with N F(N) <= C / tokens_per_parameter,
    Chinchilla's N = sqrt(C / (6 * 20)) rounded down to a rung. If even the smallest rung gets fewer tokens,
    it is used anyway.
    """
    budget = seconds * flops_per_second
    chosen = _plan(LADDER[0], budget, seconds, vocab_size, context_length)
    for rung in LADDER[1:]:
        plan = _plan(rung, budget, seconds, vocab_size, context_length)
        if plan.tokens < tokens_per_parameter * plan.parameters:
            break
        chosen = plan
    return chosen


def _plan(
    rung: tuple[int, int, int], budget: float, seconds: float, vocab_size: int, context_length: int
) -> SizePlan:
    width, layers, heads = rung
    shape = ModelShape(
        hidden_size=width,
        num_layers=layers,
        num_heads=heads,
        context_length=context_length,
        tie_embeddings=True,
    )
    spec = shape.spec(vocab_size)
    tokens = int(budget / spec.training_flops_per_token(context_length))
    return SizePlan(shape, spec.parameter_count(), tokens, seconds)
