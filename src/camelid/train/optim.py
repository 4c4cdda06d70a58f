"""The optimisers, and which parameters they decay."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from camelid.base.errors import CamelidError
from camelid.recipes.training import OptimizerName

NamedParameters = Iterable[tuple[str, nn.Parameter]]
ORTHOGONALISED = "layers."
"""Muon updates the matrices inside the layers; embeddings and output projection are look-up tables, not maps."""
MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration, chosen for a steep slope at zero (Jordan et al. 2024)."""
ITERATIONS = 5
ADAFACTOR_EPS = 1e-15
"""torch takes its square as the least mean of squares; its default, 1e-7, would damp the small gradients of large models."""


def adamw(
    named_parameters: NamedParameters, *, weight_decay: float, betas: tuple[float, float], eps: float
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) from torch, fused; only matrices decay, gains and biases do not.

    The learning rate is set before every update by the loop.
    """
    return torch.optim.AdamW(
        _decayed(named_parameters, weight_decay), lr=0.0, betas=betas, eps=eps, fused=True
    )


def adafactor(
    named_parameters: NamedParameters,
    *,
    weight_decay: float,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
) -> torch.optim.Adafactor:
    """Adafactor (Shazeer and Stern 2018, arXiv:1804.04235) from torch, with the constants that T5 was trained with.

    Update t of a parameter p of gradient g: v is the mean of g^2, averaged with beta2 = 1 - t^-0.8, for a matrix the outer
    product of its row and column means over their mean; u = g / sqrt(v), divided by max(1, RMS(u)); p loses
    rate * max(1e-3, RMS(p)) * u. There is no momentum, so `betas` and `eps`, which are AdamW's, have no part in it.

    Where torch leaves T5's: the rate is at most 1 / sqrt(t) (see `check_adafactor_rate`); every matrix is factored, not
    only those of at least 128 x 128; v is at least 1e-30 and its mean over a matrix 1e-15, where T5 adds 1e-30 to g^2; matrices decay by
    rate * weight_decay, where T5 has no decay.
    """
    return torch.optim.Adafactor(
        _decayed(named_parameters, weight_decay), lr=0.0, beta2_decay=-0.8, eps=(ADAFACTOR_EPS, 1e-3), d=1.0
    )


def check_adafactor_rate(rate: Callable[[int], float], steps: int) -> None:
    """Raises `CamelidError` where torch's Adafactor would move by less than the schedule says: its rate ends at 1 / sqrt(t)."""
    for step in range(steps):
        limit = 1 / math.sqrt(step + 1)
        if rate(step) > 1.01 * limit:  # T5's own schedule, 1 / sqrt(step), is above it by a hair
            raise CamelidError(
                f"adafactor takes a learning rate of at most 1 / sqrt(update), {limit:.4g} at update {step + 1} where "
                f"the schedule says {rate(step):.4g}; give a lower --training.learning-rate or --training.schedule inverse_sqrt"
            )


def _decayed(named_parameters: NamedParameters, weight_decay: float) -> list[dict[str, Any]]:
    """The trained parameters in two groups: matrices, which decay, and gains and biases, which do not."""
    trained = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [pair for pair in trained if pair[1].ndim >= 2], "weight_decay": weight_decay},
        {"params": [pair for pair in trained if pair[1].ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for the matrices of the layers, torch's AdamW for all else, as one optimiser.

    Both take the same learning rate: the orthogonalised update of an A x B matrix is scaled by 0.2 sqrt(max(A, B)),
    which gives it the root mean square of an AdamW update (Liu et al. 2025, arXiv:2502.16982, equation 4). Equal to
    torch.optim.Muon with `adjust_lr_fn="match_rms_adamw"`, but orthogonalises all matrices of one shape at once:
    one by one, the calls cost a narrow model a sixth of its time. `betas` and `eps` are AdamW's.
    """

    def __init__(
        self,
        named_parameters: NamedParameters,
        *,
        weight_decay: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        trained = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
        matrices = [pair for pair in trained if pair[1].ndim == 2 and pair[0].startswith(ORTHOGONALISED)]
        names = {name for name, _ in matrices}
        self._rest = adamw(
            [pair for pair in trained if pair[0] not in names],
            weight_decay=weight_decay,
            betas=betas,
            eps=eps,
        )
        muon = {"params": matrices, "weight_decay": weight_decay, "lr": 0.0}
        super().__init__([muon, *self._rest.param_groups], {})
        self._rest.param_groups, self._rest.state = self.param_groups[1:], self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter; `closure` is not supported."""
        assert closure is None
        group = self.param_groups[0]
        of_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                of_shape[parameter.shape].append(parameter)
        for (rows, columns), parameters in of_shape.items():
            updates = orthogonalised(torch.stack([self._nesterov(parameter) for parameter in parameters]))
            rate = group["lr"] * 0.2 * max(rows, columns) ** 0.5
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, updates.unbind(), alpha=-rate)
        self._rest.step()

    def _nesterov(self, parameter: Tensor) -> Tensor:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(momentum, MOMENTUM)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Approximately U V^T of each U S V^T, [count, A, B]: the singular values end between about 0.7 and 1.2.

    Five Newton-Schulz iterations X <- a X + (b X X^T + c (X X^T)^2) X (Jordan et al. 2024), on the smaller side.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices
    if x.is_cuda:
        x = x.bfloat16()  # as published: the iteration forgives it, and a GPU computes it many times faster
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


OPTIMIZERS: Mapping[OptimizerName, Callable[..., torch.optim.Optimizer]] = {
    "adamw": adamw,
    "muon": Muon,
    "adafactor": adafactor,
}
