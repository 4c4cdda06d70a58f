"""Learning-rate schedules: pure functions of the step."""

import math

from camelid.recipes.training import ScheduleName


def learning_rate(
    step: int,
    *,
    steps: int,
    warmup: int,
    peak: float,
    floor_ratio: float = 0.1,
    schedule: ScheduleName = "cosine",
    decay_fraction: float = 0.2,
) -> float:
    """The learning rate of update number `step` (from 0) of `steps`.

    Linear warm-up reaches `peak` at update `warmup`; then cosine (GPT-3, arXiv:2005.14165, App. B), linear,
    or stable-then-linear-decay (wsd, over the last `decay_fraction` of the updates; Hu et al. 2024,
    arXiv:2404.06395) decay to `floor_ratio * peak` at the last update; constant stays at the peak.
    inverse_sqrt has neither ramp nor floor: peak * sqrt(warmup / max(step, warmup)), T5's 1 / sqrt(max(step,
    10^4)) with a peak of 0.01 and a warm-up of 10^4 (arXiv:1910.10683, section 3.1.2).
    """
    if schedule == "inverse_sqrt":
        return peak * math.sqrt(max(warmup, 1) / max(step, warmup, 1))
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    match schedule:
        case "cosine":
            height = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        case "linear":
            height = 1 - min(1.0, progress)
        case "wsd":
            height = min(1.0, max(0.0, (1 - progress) / decay_fraction))
        case "constant":
            height = 1.0
    return peak * (floor_ratio + (1 - floor_ratio) * height)
