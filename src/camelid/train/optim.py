"""The optimiser, and which parameters it decays."""

from collections.abc import Iterable

import torch
from torch import nn


def adamw(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    weight_decay: float,
    betas: tuple[float, float],
    eps: float,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) from torch, fused; only matrices decay, gains and biases do not.

    The learning rate is set before every update by the loop.
    """
    trained = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
    groups = [
        {"params": [pair for pair in trained if pair[1].ndim >= 2], "weight_decay": weight_decay},
        {"params": [pair for pair in trained if pair[1].ndim < 2], "weight_decay": 0.0},
    ]
    kept = [group for group in groups if group["params"]]
    return torch.optim.AdamW(kept, lr=0.0, betas=betas, eps=eps, fused=True)
