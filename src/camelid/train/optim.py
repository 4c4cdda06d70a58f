"""The optimisers, and which parameters get weight decay."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from camelid.base.errors import CamelidError
from camelid.recipes.training import OptimizerName
from camelid.train.sharding import laid_out_as, local, whole

NamedParameters = Iterable[tuple[str, nn.Parameter]]
BLOCKS = "layers"
"""The part of a parameter's path that means a block of any stack: the decoder's, the encoder's, wrapped or
not."""
MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration, chosen for a steep slope at 0 (Jordan et al. 2024)."""
ITERATIONS = 5
BATCH_VALUES = 2**26
"""Values of the matrices that Muon takes together: sharded ones are whole then, in 256 MB of float32."""
ADAFACTOR_EPS = 1e-15
"""Its square is the least mean of squares in torch; the default, 1e-7, would damp small gradients."""


def adamw(
    named_parameters: NamedParameters, *, weight_decay: float, betas: tuple[float, float], eps: float
) -> torch.optim.AdamW:
    """torch's fused AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101); only matrices are decayed.

    The training loop sets the learning rate before every update.
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
    """torch's Adafactor (Shazeer and Stern 2018, arXiv:1804.04235) with the constants of T5's training.

    Update t of a parameter p with gradient g: v is the running mean of g^2 with beta2 = 1 - t^-0.8, factored
    for matrices as the outer product of row and column means over their mean; u = g / sqrt(v), divided by
    max(1, RMS(u)); p -= rate * max(1e-3, RMS(p)) * u. There is no momentum; `betas` and `eps` are ignored.

    Differences between torch and T5: the rate is at most 1 / sqrt(t) (see `check_adafactor_rate`); every
    matrix is factored, not only those of at least 128 x 128; v is at least 1e-30 and its mean over a matrix
    at least 1e-15, where T5 adds 1e-30 to g^2; matrices decay by rate * weight_decay, where T5 has no decay.
    """
    return Adafactor(
        _decayed(named_parameters, weight_decay), lr=0.0, beta2_decay=-0.8, eps=(ADAFACTOR_EPS, 1e-3), d=1.0
    )


class Adafactor(torch.optim.Adafactor):
    """torch's Adafactor, also of sharded parameters: it needs whole matrices, gathered one at a time."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter; `closure` is not supported."""
        assert closure is None
        groups = self.param_groups
        for group in groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(group, parameter)
        self.param_groups = groups

    def _update(self, group: dict[str, Any], parameter: nn.Parameter) -> None:
        full = parameter
        if isinstance(parameter, DTensor):
            full = nn.Parameter(whole(parameter.detach()))
            assert parameter.grad is not None  # the caller has looked
            full.grad = whole(parameter.grad)
            kept = self.state.pop(parameter, {})
            self.state[full] = {kind: whole(value) for kind, value in kept.items()}  # sharded after loading
        self.param_groups = [{**group, "params": [full]}]
        super().step()  # type: ignore[no-untyped-call]
        if full is not parameter:
            self.state[parameter] = self.state.pop(full)
            parameter.copy_(laid_out_as(full.detach(), parameter))


def check_adafactor_rate(rate: Callable[[int], float], steps: int) -> None:
    """Raises `CamelidError` if the schedule exceeds 1 / sqrt(t), at which torch's Adafactor caps the rate."""
    for step in range(steps):
        limit = 1 / math.sqrt(step + 1)
        if rate(step) > 1.01 * limit:  # T5's own schedule, 1 / sqrt(step), is slightly above it
            raise CamelidError(
                f"adafactor needs a learning rate of at most 1 / sqrt(update), {limit:.4g} at update "
                f"{step + 1}, but the schedule gives {rate(step):.4g}; lower --training.learning-rate or use "
                "--training.schedule inverse_sqrt"
            )


def _decayed(named_parameters: NamedParameters, weight_decay: float) -> list[dict[str, Any]]:
    """The trained parameters in two groups: matrices with weight decay, gains and biases without."""
    trained = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [pair for pair in trained if pair[1].ndim >= 2], "weight_decay": weight_decay},
        {"params": [pair for pair in trained if pair[1].ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def is_block_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon updates a parameter: matrices in blocks; tables outside (embeddings, T5's biases, output)
    not."""
    return parameter.ndim == 2 and BLOCKS in name.split(".")


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for the matrices of all blocks and torch's AdamW for the rest, as one
    optimiser.

    Both use the same learning rate: the orthogonalised update of an A x B matrix is scaled by
    0.2 sqrt(max(A, B)), which matches the root mean square of an AdamW update (Liu et al. 2025,
    arXiv:2502.16982, equation 4). Equal to torch.optim.Muon with `adjust_lr_fn="match_rms_adamw"`, but
    matrices of one shape are orthogonalised in batches: separate calls take a sixth of a narrow model's time.
    `betas` and `eps` are AdamW's.
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
        matrices = [pair for pair in trained if is_block_matrix(*pair)]
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
            most = max(1, BATCH_VALUES // (rows * columns))
            for start in range(0, len(parameters), most):
                self._orthogonal_update(group, parameters[start : start + most])
        self._rest.step()

    def _orthogonal_update(self, group: dict[str, Any], parameters: Sequence[Tensor]) -> None:
        """Updates matrices of one shape."""
        updates = orthogonalised(torch.stack([whole(self._nesterov(each)) for each in parameters]))
        rate = group["lr"] * 0.2 * max(parameters[0].shape) ** 0.5
        held = [local(each) for each in parameters]
        parts = [local(laid_out_as(*pair)) for pair in zip(updates.unbind(), parameters, strict=True)]
        torch._foreach_mul_(held, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(held, parts, alpha=-rate)

    def _nesterov(self, parameter: Tensor) -> Tensor:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(momentum, MOMENTUM)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Approximates U V^T of each U S V^T, [count, A, B]: singular values end between about 0.7 and 1.2.

    Five Newton-Schulz iterations X <- a X + (b X X^T + c (X X^T)^2) X (Jordan et al. 2024), on the smaller
    side.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices
    if x.is_cuda:
        x = x.bfloat16()  # as published: precise enough, and many times faster on a GPU
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
