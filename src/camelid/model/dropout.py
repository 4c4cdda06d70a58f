"""Dropout (arXiv:1207.0580) whose masks are a function of seeds; torch's global generator is never used.

Every row of a batch has a seed. The masks of a run are thus reproducible and need no saved state, recomputed
activations get the same masks again, and a row keeps its masks in micro-batches of any size, in any process.
Processes that share a row's heads or inner values have their parts of its masks (`of_part`).
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from camelid.base.errors import CamelidError

ENCODER = -1
"""The number that derives the encoder's seeds; layers are numbered from 0."""
Seeds = Int[Tensor, " batch"] | Int[Tensor, "batch 3"]
"""One seed for each row of the batch, in the memory of the CPU; or what `of_part` makes of them."""


class Site(IntEnum):
    """The places of a stack where values are dropped, so that each draws its own masks."""

    EMBEDDINGS = 0
    FINAL_NORM = 1
    PROBABILITIES = 2
    ATTENTION = 3
    CROSS_PROBABILITIES = 4
    CROSS_ATTENTION = 5
    INNER = 6
    FEED_FORWARD = 7
    ADAPTERS = 8
    """The first of them; each linear of a block has its own."""


def dropped(x: Tensor, share: float, seeds: Seeds | None, site: Site | int) -> Tensor:
    """x with a share of its values set to 0 and the rest scaled by 1 / (1 - share); x itself without
    seeds."""
    if seeds is None or share == 0:
        return x
    result: Tensor = dropout(x, seeds, int(site), share)
    return result


def required_seeds(seeds: Int[Tensor, " batch"] | None, share: float) -> Seeds | None:
    """The seeds of a stack in training, None if nothing is to be dropped; raises `CamelidError` if
    missing."""
    if share == 0:
        return None
    if seeds is None:
        raise CamelidError(
            f"this model drops {share:.0%} of its values in training: pass dropout_seeds, "
            "one integer for each "
            "row of the batch, or call model.eval() first"
        )
    return seeds.cpu()


def derived_seeds(seeds: Seeds, number: int) -> Seeds:
    """Other seeds made of these, different for each `number`."""
    return torch.tensor([_mixed(seed, number) for seed in seeds.tolist()], dtype=torch.int64, device="cpu")


def of_part(seeds: Int[Tensor, " batch"], part: int, parts: int) -> Seeds:
    """Seeds that draw part `part` of `parts` equal ones of the masks over all heads or all inner values."""
    return torch.stack([seeds, *(torch.full_like(seeds, number) for number in (part, parts))], dim=1)


def kept_values(
    shape: Sequence[int], seeds: Seeds, share: float, device: torch.device, *numbers: int
) -> Bool[Tensor, "batch *shape"]:
    """The mask for `numbers`, True at the values that are kept; shape: that of each row's part."""
    if seeds.ndim == 2:
        part, parts = map(int, seeds[0, 1:].tolist())
        of_values = numbers[0] == Site.INNER or numbers[0] >= Site.ADAPTERS
        split = len(shape) if of_values else 1  # the inner values, or the heads
        whole = [size * (parts if axis == split else 1) for axis, size in enumerate(shape, 1)]
        return kept_values(whole, seeds[:, 0], share, device, *numbers).chunk(parts, split)[part]
    own = [_mixed(seed, *numbers) for seed in seeds.tolist()]
    mask = torch.empty((len(own), *shape), dtype=torch.bool, device=device)
    if device.type == "cpu":
        # NumPy draws four values in the time in which torch's generator draws one.
        limit, count = round((1 - share) * 2**16), math.prod(shape)
        for row, seed in zip(mask.view(len(own), count).numpy(), own, strict=True):
            draws = np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.uint16)
            np.less(draws[:count], limit, out=row)
    else:
        generator = torch.Generator(device)
        for row_mask, seed in zip(mask, own, strict=True):
            row_mask.bernoulli_(1 - share, generator=generator.manual_seed(seed))
    return mask


@torch.library.custom_op("camelid::dropout", mutates_args=())
def dropout(x: Tensor, seeds: Tensor, site: int, share: float) -> Tensor:
    """x with dropped values; an operator, so that compiled blocks draw the same masks as eager ones."""
    return (x * kept_values(x.shape[1:], seeds, share, x.device, site)).mul_(1 / (1 - share)).contiguous()


@dropout.register_fake
def _result(x: Tensor, seeds: Tensor, site: int, share: float) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, seeds, ctx.site, ctx.share = inputs
    ctx.save_for_backward(seeds)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return dropout(gradient, *ctx.saved_tensors, ctx.site, ctx.share), None, None, None


dropout.register_autograd(_backward, setup_context=_save)


def _mixed(seed: int, *numbers: int) -> int:
    """A seed below 2^63 of a seed and numbers, mixed as in SplitMix64 (Steele et al. 2014, figure 17)."""
    for number in numbers:
        seed = (seed + (number + 2) * 0x9E3779B97F4A7C15) % 2**64
        seed = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        seed = (seed ^ seed >> 27) * 0x94D049BB133111EB % 2**64
        seed ^= seed >> 31
    return seed >> 1
