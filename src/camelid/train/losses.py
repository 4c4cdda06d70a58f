"""Weighted cross-entropy straight from hidden states: the logits of only one chunk of rows exist at a time.

The gradient is computed in the forward pass, chunk by chunk, while the chunk's logits are in memory (as in
"Cut Your Losses", arXiv:2411.09009, without its kernel); the backward pass only scales it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_VALUES = 16 * 2**20
"""Logits per chunk: enough rows for a matrix product at full speed."""
PIECE_VALUES = 2**19
"""Logits per float32 softmax: few enough to stay in the CPU cache."""


def chunked_cross_entropy(
    hidden: Float[Tensor, "batch time width"],
    weight: Float[Tensor, "vocab width"],
    targets: Int[Tensor, "batch time"],
    weights: Float[Tensor, "batch time"],
    z_loss: float = 0.0,
) -> Float[Tensor, ""]:
    """Sum over tokens of weight * (-log p(target) + z_loss * log(Z)^2), differentiable, in float32 (nats).

    Tokens of weight 0 cost nothing. Logits have the dtype of `hidden`; the rest is computed in float32.
    z_loss keeps the softmax normaliser Z near 1 (PaLM, arXiv:2204.02311, section 5).
    """
    total: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden.flatten(0, 1), weight, targets.flatten(), weights.flatten().float(), z_loss
    )
    return total


def chunked_logprobs(
    hidden: Float[Tensor, "batch time width"],
    weight: Float[Tensor, "vocab width"],
    targets: Int[Tensor, "batch time"],
    wanted: Bool[Tensor, "batch time"],
) -> Float[Tensor, "batch time"]:
    """log p(target) of the wanted tokens, 0 elsewhere, differentiable, in float32.

    The backward pass computes a chunk's logits again, so that only one chunk of them exists at a time.
    """
    matrix, states, chosen = weight.to(hidden.dtype), hidden.flatten(0, 1), wanted.flatten().nonzero()[:, 0]
    parts = [
        checkpoint(_logprobs, states[piece], matrix, targets.flatten()[piece], use_reentrant=False)
        for piece in row_chunks(chosen, len(matrix))
    ]
    found = torch.zeros(states.shape[0], device=hidden.device)
    return found.index_put((chosen,), torch.cat(parts)).view_as(targets)


def row_chunks(rows: Tensor, vocab_size: int) -> tuple[Tensor, ...]:
    """The rows in chunks whose logits have at most `CHUNK_VALUES` values."""
    return torch.split(rows, max(1, CHUNK_VALUES // vocab_size))


def _logprobs(states: Tensor, matrix: Tensor, targets: Tensor) -> Tensor:
    return -F.cross_entropy(F.linear(states, matrix).float(), targets, reduction="none")


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, z_loss: float
    ) -> Tensor:
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        matrix = weight.to(hidden.dtype)
        hidden_grad = torch.zeros_like(hidden) if need_hidden else None
        weight_grad: Tensor | None = None
        total = torch.zeros((), device=hidden.device)
        trained = weights.nonzero().flatten()
        for chosen in row_chunks(trained, len(matrix)):
            states = hidden[chosen]
            logits = F.linear(states, matrix)
            total += _loss_and_gradient(logits, targets[chosen], weights[chosen], z_loss)
            if hidden_grad is not None:
                hidden_grad[chosen] = logits @ matrix
            if need_weight:
                part = (logits.T @ states).float()
                weight_grad = part if weight_grad is None else weight_grad.add_(part)
        if need_weight and weight_grad is None:
            weight_grad = torch.zeros_like(weight, dtype=torch.float32)
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


def _loss_and_gradient(
    logits: Float[Tensor, "rows vocab"],
    targets: Int[Tensor, " rows"],
    weights: Float[Tensor, " rows"],
    z_loss: float,
) -> Float[Tensor, ""]:
    """The summed loss; overwrites the logits with its gradient, w (softmax (1 + 2 z log Z) - onehot)."""
    total = torch.zeros((), device=logits.device)
    rows = max(1, PIECE_VALUES // logits.shape[1])
    pieces = (torch.split(x, rows) for x in (logits, targets[:, None], weights[:, None]))
    for piece, target, weight in zip(*pieces, strict=True):
        wide = piece.float()
        target_logits = wide.gather(-1, target)
        log_probabilities = wide.log_softmax(-1)
        nll = -log_probabilities.gather(-1, target)
        normalizer = target_logits + nll
        total += (weight * (nll + z_loss * normalizer.square())).sum()
        gradient = log_probabilities.exp_().mul_(weight * (1 + 2 * z_loss * normalizer))
        piece.copy_(gradient.scatter_add_(-1, target, -weight))
    return total
