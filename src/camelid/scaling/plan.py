"""The best model size and number of tokens for a budget: by tokens per parameter, or by a scaling law."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from camelid.base.errors import CamelidError
from camelid.model.spec import ModelSpec
from camelid.recipes.model_shape import ModelShape
from camelid.scaling.cluster import Mesh, Recomputed, process_bytes

TOKENS_PER_PARAMETER = 20.0
"""Chinchilla's ratio (Hoffmann et al. 2022, arXiv:2203.15556, Table 3; Besiroglu et al. 2024,
arXiv:2404.10102, refit).
"""

SHAPES = (
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

REPEATS = 15.39
"""Epochs over which the worth of repeated tokens decays (Muennighoff et al. 2023, arXiv:2305.16264, R_D*)."""

Loss = Callable[[float, float], float]
"""A law: the loss of N parameters after D tokens."""
Rows = Callable[["Candidate", float], int]
"""The rows of an update of a shape that is trained on that many tokens."""


@dataclass(frozen=True)
class SizePlan:
    """A shape, the tokens to train it on, and the expected time in seconds."""

    shape: ModelShape
    parameters: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Candidate:
    """A shape that could be trained, with its parameters and training FLOPs per token."""

    shape: ModelShape
    spec: ModelSpec
    parameters: int
    flops_per_token: float

    @classmethod
    def of(cls, rung: tuple[int, int, int], vocab_size: int, context_length: int) -> "Candidate":
        """The shape of this width, layers and heads."""
        width, layers, heads = rung
        shape = ModelShape(
            hidden_size=width,
            num_layers=layers,
            num_heads=heads,
            context_length=context_length,
            tie_embeddings=True,
        )
        spec = shape.spec(vocab_size)
        return cls(shape, spec, spec.parameter_count(), spec.training_flops_per_token(context_length))

    def device_bytes(
        self, devices: int, rows: int, at_once: int = 1, recomputed: Recomputed = "full"
    ) -> float:
        """Memory of each device in an update of `rows` rows, of which it computes `at_once` at a time; see
        `process_bytes`."""
        micro_batches = math.ceil(rows / (devices * at_once))
        tokens = at_once * self.shape.context_length
        return process_bytes(self.spec, Mesh(devices), micro_batches, tokens, recomputed)


@dataclass(frozen=True)
class Limits:
    """What a run may cost: FLOPs for training and later inference together, and what it must fit.

    inference_tokens: expected after training. unique_tokens: of text, repeated beyond. device_bytes: memory
    of each of `devices`, which compute one row at a time and blocks again.
    """

    flops: float
    inference_tokens: float = 0.0
    unique_tokens: float = math.inf
    device_bytes: float = math.inf
    devices: int = 1


@dataclass(frozen=True)
class RunPlan:
    """A shape, its training tokens, what these are worth without repeats, and the predicted loss."""

    candidate: Candidate
    tokens: float
    effective_tokens: float
    loss: float

    @property
    def training_flops(self) -> float:
        """FLOPs of the training."""
        return self.tokens * self.candidate.flops_per_token


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
    limits = Limits(seconds * flops_per_second)
    rungs = [Candidate.of(rung, vocab_size, context_length) for rung in SHAPES]
    enough = [each for each in rungs if _tokens(each, limits) >= tokens_per_parameter * each.parameters]
    chosen = max([rungs[0], *enough], key=lambda each: each.parameters)
    return SizePlan(chosen.shape, chosen.parameters, int(_tokens(chosen, limits)), seconds)


def plan_run(
    loss: Loss, limits: Limits, candidates: Iterable[Candidate], rows: Rows = lambda shape, tokens: 1
) -> RunPlan:
    """The candidate with the lowest predicted loss within the limits, trained for as long as they pay for.

    rows: of an update, which memory depends on.

    A token of inference costs a third of one in training, so D = C / F(N) - I / 3: the more inference is
    expected, the smaller and longer trained is the best model (LLaMA, arXiv:2302.13971, section 1; Sardana et
    al. 2024, arXiv:2401.00448). Raises `CamelidError` if none fits.
    """
    payable = [(each, tokens) for each in candidates if (tokens := _tokens(each, limits)) >= 1]
    if not payable:
        raise CamelidError(
            f"{limits.flops:.3g} FLOPs do not pay for {limits.inference_tokens:.3g} tokens of inference with "
            "any model; raise the budget or lower --inference-tokens"
        )
    fitting = [
        (each, tokens)
        for each, tokens in payable
        if each.device_bytes(limits.devices, rows(each, tokens)) <= limits.device_bytes
    ]
    if not fitting:
        raise CamelidError(
            f"no model fits into {limits.device_bytes / 1e9:.3g} GB on each of {limits.devices} devices; "
            "give more --memory or --devices"
        )
    plans = [
        RunPlan(each, tokens, worth, loss(each.parameters, worth))
        for each, tokens in fitting
        for worth in [effective_tokens(tokens, limits.unique_tokens)]
    ]
    return min(plans, key=lambda each: each.loss)


def effective_tokens(tokens: float, unique: float) -> float:
    """What `tokens` over `unique` ones are worth, in tokens seen once: U + U R (1 - exp(-(D / U - 1) / R)).

    Muennighoff et al. 2023 (arXiv:2305.16264), eq. 5, R = 15.39: four epochs are nearly as good as new text,
    and no number of them is worth more than 16.4.
    """
    if tokens <= unique:
        return tokens
    return unique + unique * REPEATS * (1 - math.exp(-(tokens / unique - 1) / REPEATS))


def candidates(vocab_size: int, context_length: int, most_width: int = 24_576) -> Iterator[Candidate]:
    """Shapes in fine steps up to `most_width`: wide models have relatively fewer layers, as published ones.

    Layers are width / (32 (width / 64)^0.28): 2 at 64, 12 at 768, 40 at 4096, 66 at 8192. Heads have 32
    dimensions below a width of 512, then 64, and 128 from 4096 on.
    """
    width = 64
    while width <= most_width:
        layers = max(2, round(width / (32 * (width / 64) ** 0.28)))
        head = 32 if width < 512 else 64 if width < 4096 else 128
        yield Candidate.of((width, layers, width // head), vocab_size, context_length)
        step = 32 if width < 512 else 64 if width < 2048 else 256 if width < 8192 else 512
        width += step


def _tokens(candidate: Candidate, limits: Limits) -> float:
    """The training tokens that the FLOPs pay for, beside those of inference."""
    return limits.flops / candidate.flops_per_token - limits.inference_tokens / 3
