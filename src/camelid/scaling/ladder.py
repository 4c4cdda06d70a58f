"""A ladder of models for a law: which sizes to train on how many tokens, within a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from camelid.base.errors import WrongCall
from camelid.recipes.model_shape import ModelShape

MULTIPLES = (0.5, 1.0, 2.0, 4.0)
"""Numbers of tokens of a size, relative to the ladder's tokens per parameter."""
HELD_OUT_COMPUTE = 3.0
"""FLOPs of the held-out rung, relative to the largest fitted one."""
MOST_TOKENS_PER_PARAMETER, LEAST_TOKENS_PER_PARAMETER = 20.0, 1.0
LEAST_STEPS, LEAST_RUNGS = 50, 7
"""Updates of a rung, and fitted rungs: after a few updates no loss follows a law (docs/scaling.md)."""
RUNG_SECONDS = 12.0
"""Time of a rung beside its updates: start, reading, validation."""
HEAD_WIDTH = 16


@dataclass(frozen=True)
class Rung:
    """One model of a ladder."""

    name: str
    shape: ModelShape
    parameters: int
    flops_per_token: float
    tokens: int
    held_out: bool = False

    @property
    def flops(self) -> float:
        """Training FLOPs."""
        return self.flops_per_token * self.tokens

    def as_json(self) -> dict[str, Any]:
        """Its fields as plain values."""
        return {**vars(self), "shape": self.shape.model_dump()}

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "Rung":
        """The rung that `as_json` wrote."""
        return cls(**{**table, "shape": ModelShape(**table["shape"])})


def ladder_shape(width: int, context: int) -> ModelShape:
    """The shape at a width: a layer for every 32 of it, at least two, and heads of 16."""
    if width % HEAD_WIDTH:
        raise WrongCall(f"a width is {width}; each must be a multiple of {HEAD_WIDTH} (--widths)")
    return ModelShape(
        hidden_size=width,
        num_layers=max(2, width // 32),
        num_heads=width // HEAD_WIDTH,
        context_length=context,
        tie_embeddings=True,
    )


def design_ladder(
    widths: Sequence[int],
    held_out_width: int,
    tokens_per_parameter: float,
    *,
    vocab_size: int,
    context: int,
    batch_tokens: int,
) -> list[Rung]:
    """Each width at `MULTIPLES` of the tokens, up to the FLOPs of the widest at 1; then the held-out rung.

    So the small models are trained for long, the large ones briefly, and no rung dominates the cost; the
    held-out rung has `HELD_OUT_COMPUTE` times the FLOPs of the largest. Tokens are
    whole batches. Rungs of fewer than `LEAST_STEPS` updates are left out.
    """
    if sorted(set(widths)) != list(widths) or held_out_width <= widths[-1]:
        raise WrongCall(f"--widths {widths} must ascend, and --held-out-width {held_out_width} exceed them")
    rungs = []
    for width in widths:
        for multiple in MULTIPLES:
            shape = ladder_shape(width, context)
            tokens = multiple * tokens_per_parameter * shape.spec(vocab_size).parameter_count()
            rungs.append(_rung(shape, tokens, vocab_size, context, batch_tokens))
    most = max(
        rung.flops
        for rung in rungs
        if rung.tokens <= 1.01 * tokens_per_parameter * rung.parameters + batch_tokens
    )
    kept = [r for r in rungs if r.flops <= 1.01 * most and r.tokens >= LEAST_STEPS * batch_tokens]
    shape = ladder_shape(held_out_width, context)
    tokens = HELD_OUT_COMPUTE * most / shape.spec(vocab_size).training_flops_per_token(context)
    return [*kept, _rung(shape, tokens, vocab_size, context, batch_tokens, held_out=True)]


def fit_ladder_to_time(
    seconds: float,
    speeds: Mapping[int, float],
    widths: Sequence[int],
    held_out_width: int,
    parallel: int = 1,
    **sizes: int,
) -> list[Rung]:
    """The ladder with the most tokens per parameter that ends in `seconds`, `parallel` rungs at a time.

    speeds: tokens per second at each width; sizes: see `design_ladder`. Raises `WrongCall` if it would give
    models less than a token per parameter.
    """
    low, high = LEAST_TOKENS_PER_PARAMETER, MOST_TOKENS_PER_PARAMETER

    def ladder(tokens_per_parameter: float) -> list[Rung]:
        return design_ladder(widths, held_out_width, tokens_per_parameter, **sizes)

    if ladder_seconds(ladder(high), speeds, parallel) <= seconds:
        return ladder(high)
    if (least := ladder_seconds(ladder(low), speeds, parallel)) > seconds:
        raise WrongCall(
            f"these widths need at least {least / 60:.1f} minutes of training on this machine, for one token "
            f"per parameter, and the sweep has {seconds / 60:.1f}; give more --minutes, or smaller --widths"
        )
    for _ in range(20):
        middle = (low + high) / 2
        fits = ladder_seconds(ladder(middle), speeds, parallel) <= seconds
        low, high = (middle, high) if fits else (low, middle)
    return ladder(low)


def check_ladder(rungs: Sequence[Rung]) -> None:
    """Raises `WrongCall` if fewer than `LEAST_RUNGS` rungs are left to fit."""
    fitted = sum(not rung.held_out for rung in rungs)
    if fitted < LEAST_RUNGS:
        raise WrongCall(
            f"only {fitted} models would make {LEAST_STEPS} updates, and {LEAST_RUNGS} are needed; give more "
            "--minutes or --tokens-per-parameter, or a smaller --batch-tokens"
        )


def ladder_seconds(rungs: Sequence[Rung], speeds: Mapping[int, float], parallel: int = 1) -> float:
    """The time of all rungs: the fitted ones `parallel` at a time, the longest first, then the held-out."""
    ends, last = [0.0] * parallel, 0.0
    costs = [(rung.tokens / speeds[rung.shape.hidden_size] + RUNG_SECONDS, rung.held_out) for rung in rungs]
    for cost, held_out in sorted(costs, reverse=True):
        if held_out:
            last += cost
        else:
            ends[ends.index(min(ends))] += cost
    return max(ends) + last


def _rung(
    shape: ModelShape, tokens: float, vocab_size: int, context: int, batch: int, held_out: bool = False
) -> Rung:
    spec = shape.spec(vocab_size)
    whole = max(1, round(tokens / batch)) * batch
    name = f"w{shape.hidden_size}-{whole // batch}"
    flops = spec.training_flops_per_token(context)
    return Rung(name, shape, spec.parameter_count(), flops, whole, held_out)
