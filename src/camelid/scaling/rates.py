"""Learning rate and batch size by rules: across widths for small models, and StepLaw's for large ones."""

from camelid.scaling.points import Floats

STEP_RATE = (1.79, -0.713, 0.307)
STEP_BATCH = (0.58, 0.571)


def transferred_rate(rate: float, base_width: int, width: int) -> float:
    """The peak learning rate at `width` of one that was tuned at `base_width`: rate x base_width / width.

    The rule of muP for hidden matrices (Yang et al. 2022, arXiv:2203.03466, table 8), for all weights. It
    keeps the change of hidden states alike over widths, for Muon too: `workflows.sweep.coordinates` checks.
    """
    return rate * base_width / width


def step_law(parameters: float | Floats, tokens: float | Floats) -> tuple[float | Floats, float | Floats]:
    """AdamW's peak learning rate 1.79 N^-0.713 D^0.307, and the batch 0.58 D^0.571 in tokens.

    Li et al. 2025 (arXiv:2503.04715), fitted over N of 0.06 to 1 billion without embeddings.
    """
    factor, size, length = STEP_RATE
    return factor * parameters**size * tokens**length, STEP_BATCH[0] * tokens ** STEP_BATCH[1]
