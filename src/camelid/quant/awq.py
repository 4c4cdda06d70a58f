"""AWQ: scales up the weights of large inputs for finer steps; the previous layer absorbs the inverse
(arXiv:2306.00978).

The error is that of each linear's own output, ||(W - W') X||^2, computed from the second moments of the
inputs; the published code measures it on the output of the whole attention or feed-forward.
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from camelid.model.linears import kind_of
from camelid.quant.choices import Bits
from camelid.quant.moments import Moments
from camelid.quant.round_to_nearest import QuantizedWeight, round_to_nearest

GRID = 20
"""Number of exponents of the inputs' magnitudes to try: 0, 1/20, ..., 19/20."""
CLIPS = 10
"""Number of clipping ranges to try, in steps of 1/20 of a group's range: 20/20, ..., 11/20."""


@torch.no_grad()
def smooth(
    block: nn.Module, names: Sequence[str], moments: Moments, bits: Bits, group_size: int
) -> Float[Tensor, " inner"]:
    """Scales the named linears' columns up and their input down, in place; returns the scales (1 if none
    help).

    The input is scaled down in the gain of the norm or in the rows of the linear before it; if there is
    neither (grouped values before the attention's output projection), nothing is scaled.
    """
    linears = [cast(nn.Linear, block.get_submodule(name)) for name in names]
    before = _before(block, names[0])
    ones = torch.ones_like(moments.magnitude)
    if before is None:
        return ones
    weights = [linear.weight.float() for linear in linears]
    best, least = ones, torch.inf
    for step in range(GRID):
        scales = moments.magnitude.clamp(min=1e-4) ** (step / GRID)
        scales = scales / (scales.max() * scales.min()).sqrt()
        error = sum(float(_loss(each, scales, moments.second, bits, group_size)) for each in weights)
        if error < least:
            best, least = scales, error
    for linear in linears:
        linear.weight.data = (linear.weight.float() * best).to(linear.weight.dtype)
    for parameter in before:
        shape = [-1] + [1] * (parameter.ndim - 1)
        parameter.data = (parameter.float() / best.view(shape)).to(parameter.dtype)
    moments.second /= best[:, None] * best
    moments.magnitude /= best
    return best


def clipped(
    weight: Float[Tensor, "outer inner"],
    second: Float[Tensor, "inner inner"],
    bits: Bits,
    group_size: int,
    scale_dtype: torch.dtype = torch.float32,
) -> QuantizedWeight:
    """Round-to-nearest after clipping each group to the range with the least error of its share of the
    output.
    """
    weight = weight.float()
    diagonal = range(0, weight.shape[1], group_size)
    blocks = torch.stack([second[i : i + group_size, i : i + group_size] for i in diagonal])
    grouped = weight.reshape(len(weight), -1, group_size)
    best, least = grouped, torch.full(grouped.shape[:2], torch.inf)
    highest = grouped.abs().amax(-1, keepdim=True)
    for step in range(CLIPS):
        bound = highest * (1 - step / GRID)
        candidate = grouped.clamp(-bound, bound)
        rounded = round_to_nearest(candidate.flatten(1), bits, group_size, scale_dtype).dequantize()
        off = grouped - rounded.view_as(grouped)
        error = torch.einsum("ogi,gij,ogj->og", off, blocks, off)
        better = error < least
        best, least = torch.where(better[..., None], candidate, best), torch.where(better, error, least)
    return round_to_nearest(best.flatten(1), bits, group_size, scale_dtype)


def _loss(weight: Tensor, scales: Tensor, second: Tensor, bits: Bits, group_size: int) -> Tensor:
    rounded = round_to_nearest(weight * scales, bits, group_size).dequantize() / scales
    off = weight - rounded
    return ((off @ second) * off).sum()


def _before(block: nn.Module, name: str) -> list[nn.Parameter] | None:
    """The parameters whose outputs are, one to one, the inputs of a linear; None if there are none."""
    match name:
        # In parallel blocks one norm feeds both halves: scaling it for one would change the other.
        case "self_attn.q_proj" if hasattr(block, "post_attention_layernorm"):
            return _parameters(block.get_submodule("input_layernorm"))
        case "mlp.gate_proj" | "mlp.up_proj" if hasattr(block, "post_attention_layernorm"):
            return _parameters(block.get_submodule("post_attention_layernorm"))
        case "mlp.down_proj" if hasattr(block.get_submodule("mlp"), "gate_proj"):
            return _of_plain(block.get_submodule("mlp.up_proj"))
        case "self_attn.o_proj":
            value, output = block.get_submodule("self_attn.v_proj"), block.get_submodule(name)
            return _of_plain(value) if value.out_features == output.in_features else None
    return None


def _of_plain(linear: nn.Module) -> list[nn.Parameter] | None:
    """The parameters of a linear whose rows can be scaled; None if its weight is packed."""
    return _parameters(linear) if kind_of(linear) == "plain" else None


def _parameters(module: nn.Module) -> list[nn.Parameter] | None:
    """None for a norm without a gain, which cannot be scaled."""
    return [parameter for parameter in module.parameters() if parameter.numel()] or None
