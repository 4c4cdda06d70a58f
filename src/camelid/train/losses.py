"""Weighted cross-entropy straight from hidden states: the logits of only one chunk of rows exist at a time.

The gradient is computed in the forward pass, chunk by chunk, while a chunk's logits are still there (the "cut" of
arXiv:2411.09009 without its kernel), so that the backward pass only scales it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_BYTES = 4 * 2**20
"""Logits of one chunk: small enough to stay in a last-level cache, large enough for full-speed products."""


def chunked_cross_entropy(
    hidden: Float[Tensor, "batch time width"],
    weight: Float[Tensor, "vocab width"],
    targets: Int[Tensor, "batch time"],
    weights: Float[Tensor, "batch time"],
    z_loss: float = 0.0,
) -> Float[Tensor, ""]:
    """Sum over tokens of weight * (-log p(target) + z_loss * log(Z)^2), differentiable, in float32 (nats).

    Rows of weight 0 cost nothing. Logits have the dtype of `hidden`, everything after them is float32. z_loss keeps
    the softmax normaliser Z near 1 (PaLM, arXiv:2204.02311, section 5).
    """
    total: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden.flatten(0, 1), weight, targets.flatten(), weights.flatten().float(), z_loss
    )
    return total


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, z_loss: float
    ) -> Tensor:
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        matrix = weight.to(hidden.dtype)
        hidden_grad = torch.zeros_like(hidden) if need_hidden else None
        weight_grad = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        total = torch.zeros((), device=hidden.device)
        trained = weights.nonzero().flatten()
        rows = max(1, CHUNK_BYTES // (matrix.shape[0] * matrix.element_size()))
        for chosen in torch.split(trained, rows):
            states = hidden[chosen]
            loss, gradient = _chunk(states, matrix, targets[chosen], weights[chosen], z_loss)
            total += loss
            if hidden_grad is not None:
                hidden_grad[chosen] = gradient @ matrix
            if weight_grad is not None:
                weight_grad += gradient.T @ states
        ctx.save_for_backward(hidden_grad, weight_grad)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = grad_outputs
        hidden_grad, weight_grad = ctx.saved_tensors
        if hidden_grad is not None:
            hidden_grad = hidden_grad * scale.to(hidden_grad.dtype)
        if weight_grad is not None:
            weight_grad = (weight_grad * scale).to(ctx.weight_dtype)
        return hidden_grad, weight_grad, None, None, None


def _chunk(
    states: Float[Tensor, "rows width"],
    matrix: Float[Tensor, "vocab width"],
    targets: Int[Tensor, " rows"],
    weights: Float[Tensor, " rows"],
    z_loss: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, "rows vocab"]]:
    """The chunk's loss, and its derivative by the logits: w (softmax (1 + 2 z log Z) - onehot(target))."""
    logits = F.linear(states, matrix).float()
    target = targets[:, None]
    target_logits = logits.gather(-1, target).squeeze(-1)
    log_probabilities = logits.log_softmax(-1)
    nll = -log_probabilities.gather(-1, target).squeeze(-1)
    normalizer = target_logits + nll
    loss = torch.dot(weights, nll + z_loss * normalizer.square())
    gradient = log_probabilities.exp_().mul_((weights * (1 + 2 * z_loss * normalizer))[:, None])
    gradient.scatter_add_(-1, target, -weights[:, None])
    return loss, gradient.to(states.dtype)
