"""GPTQ: rounds one column at a time; later columns compensate for its error (arXiv:2210.17323)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.base.cores import share_cores
from camelid.base.errors import CamelidError, WrongCall
from camelid.quant.choices import Bits
from camelid.quant.round_to_nearest import QuantizedWeight, fit_groups

BLOCK = 128
"""Columns whose updates are applied to the rest of the matrix in one product."""
STRONGER = 10
"""Factor by which the damping grows if a Hessian cannot be factored."""


def gptq(
    weight: Float[Tensor, "outer inner"],
    second: Float[Tensor, "inner inner"],
    bits: Bits,
    group_size: int,
    *,
    act_order: bool = True,
    static_groups: bool = True,
    damping: float = 0.01,
    scale_dtype: torch.dtype = torch.float32,
    grew: Callable[[float], None] = lambda damping: None,
) -> QuantizedWeight:
    """The quantised weight that approximately minimises ||(W - W') X||^2; algorithm 1 of the paper.

    second: mean of x x^T over the inputs. act_order: columns with large inputs first; group_size: inputs that
    share a scale, fitted to the original weights (`static_groups`) or to the updated weights when their group
    begins. damping: share of the mean diagonal that is added to the diagonal; multiplied by ten until the
    Hessian can be factored, and `grew` is called with the result. Inputs that are always zero get weight
    zero. Raises what `check_settings` does, and `CamelidError` if no damping up to 1 makes the Hessian
    positive definite.
    """
    check_settings(group_size != weight.shape[1], act_order, static_groups, damping)
    weight, hessian = weight.float().clone(), second.float().clone()
    dead = hessian.diagonal() == 0
    # Any value works for dead columns; the mean of the others leaves the damping unchanged.
    hessian.diagonal()[dead] = 1 if dead.all() else hessian.diagonal()[~dead].mean()
    weight[:, dead] = 0
    inner = weight.shape[1]
    scales, zeros = fit_groups(weight.reshape(len(weight), -1, group_size), bits, scale_dtype)
    order = hessian.diagonal().argsort(descending=True, stable=True) if act_order else torch.arange(inner)
    weight, group_of = weight[:, order], order // group_size
    factor = _inverse_factor(hessian[order[:, None], order], damping, grew)
    del hessian
    codes = torch.empty_like(weight)
    # Without static groups, a group starts at a block boundary, where all earlier updates are applied.
    span = inner if static_groups else group_size
    begins = (b for start in range(0, inner, span) for b in range(start, start + span, BLOCK))
    for begin in share_cores(begins):
        end = min(begin + BLOCK, begin - begin % span + span)
        if not static_groups and begin % group_size == 0:
            group = begin // group_size
            fitted = fit_groups(weight[:, None, begin : begin + group_size], bits, scale_dtype)
            scales[:, group], zeros[:, group] = fitted[0][:, 0], fitted[1][:, 0]
        block, errors = weight[:, begin:end].clone(), weight.new_empty(len(weight), end - begin)
        for column in range(end - begin):
            group = int(group_of[begin + column])
            scale, zero = scales[:, group].float(), zeros[:, group]
            code = (torch.round(block[:, column] / scale) + zero).clamp(0, 2**bits - 1)
            codes[:, begin + column] = code
            row = factor[begin + column, begin + column : end]
            errors[:, column] = (block[:, column] - scale * (code - zero)) / row[0]
            block[:, column:] -= errors[:, column, None] * row
        weight[:, end:] -= errors @ factor[begin:end, end:]
    in_place = torch.empty_like(codes)
    in_place[:, order] = codes
    return QuantizedWeight(in_place.to(torch.uint8), scales, zeros.int(), bits)


def check_settings(grouped: bool, act_order: bool, static_groups: bool, damping: float) -> None:
    """Raises `WrongCall` on a damping outside 0 ... 1, and on act-order with groups that are not static.

    The stored layout has its groups in order, and cannot express those; one group per row is fine.
    """
    if not 0 <= damping <= 1:
        raise WrongCall(f"damping is {damping}; it must be a share of the mean diagonal, from 0 to 1")
    if act_order and not static_groups and grouped:
        raise WrongCall(
            "act-order without static groups needs an index for every input, which the layout does not "
            "store; use "
            "--static-groups with act-order, or --no-act-order"
        )


def _inverse_factor(
    hessian: Float[Tensor, "inner inner"], damping: float, grew: Callable[[float], None]
) -> Float[Tensor, "inner inner"]:
    """The upper Cholesky factor U of the damped Hessian's inverse, H^-1 = U^T U; damps in place."""
    diagonal, asked = hessian.diagonal().clone(), damping
    while damping <= 1:
        hessian.diagonal().copy_(diagonal + damping * diagonal.mean())
        lower, failed = torch.linalg.cholesky_ex(hessian)
        if not failed:
            inverse = torch.cholesky_inverse(lower)
            del lower
            upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
        if not failed and upper.isfinite().all():
            factor: Tensor = upper
            if damping > asked:
                grew(damping)
            return factor
        damping = max(damping * STRONGER, 1e-6)
    raise CamelidError(
        "the Hessian is singular even with a damping of 1; use more, or more varied, calibration text"
    )
