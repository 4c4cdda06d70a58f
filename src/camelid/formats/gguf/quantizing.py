"""Quantises tensors to GGUF's blocks: the `gguf` package for the simple formats, our own search for Q4_K.

`formats.gguf.types` is the reader.
"""

from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from camelid.base.errors import CamelidError
from camelid.formats.gguf.types import BLOCKS

BEYOND = "it has values that are NaN or too large for {}'s float16 scales; use bfloat16 or float32"
SLAB_ROWS = 256
"""Q4_K super-blocks searched at a time, to bound memory."""
STEPS = torch.arange(-1.0, 1.01, 0.1)
"""Candidate numbers of levels for a sub-block's range, relative to 15."""


def gguf_package() -> ModuleType:
    """The `gguf` package; raises `CamelidError` if it is not installed."""
    try:
        import gguf
    except ImportError as error:
        raise CamelidError('writing GGUF needs the gguf package: pip install "camelid[gguf]"') from error
    return gguf


def blocks_of(tensor: Float[Tensor, "*rows inner"], kind: str) -> UInt8[Tensor, "*rows bytes"]:
    """The tensor's bytes in ggml's format `kind`: F32, F16, BF16, Q8_0, Q5_0, Q4_0 or Q4_K.

    The inner size must be a multiple of the block. Raises `CamelidError` if a value or a block's scale does
    not fit into float16.
    """
    if kind in ("F32", "BF16"):
        return tensor.to(torch.float32 if kind == "F32" else torch.bfloat16).contiguous().view(torch.uint8)
    if kind == "F16":
        halves = tensor.to(torch.float16).contiguous()
        if not halves.isfinite().all():
            raise CamelidError("it has values beyond float16's 65504; use bfloat16 or float32")
        return halves.view(torch.uint8)
    if kind == "Q4_K":
        rows = tensor.float().reshape(-1, 8, 32)
        made = torch.cat([_q4_k(slab) for slab in torch.split(rows, SLAB_ROWS)])
        return made.reshape(*tensor.shape[:-1], -1)
    gguf = gguf_package()
    with np.errstate(all="ignore"):
        quantized = gguf.quants.quantize(tensor.float().contiguous().numpy(), gguf.GGMLQuantizationType[kind])
    scales = quantized.reshape(-1, BLOCKS[kind].size)[:, :2].copy().view(np.float16)
    # NaN can end up in a code and leave the scale finite.
    if not (np.isfinite(scales).all() and tensor.isfinite().all()):
        raise CamelidError(BEYOND.format(kind))
    return torch.from_numpy(quantized)


def _q4_k(x: Float[Tensor, "blocks 8 32"]) -> UInt8[Tensor, "blocks 144"]:
    """x = d scale q - dmin minimum with 6-bit scales and minima of eight sub-blocks, and 4-bit q."""
    scales, minima = _fitted(x)
    top_scale, top_minimum = scales.amax(1, keepdim=True), minima.amax(1, keepdim=True)
    six_bit_scales = _share(scales, top_scale)
    six_bit_minima = _share(minima, top_minimum)
    both = torch.cat((top_scale, top_minimum), 1).div(63).to(torch.float16)
    if not both.isfinite().all():
        raise CamelidError(BEYOND.format("Q4_K"))
    d, dmin = both.float()[:, :1] * six_bit_scales, both.float()[:, 1:] * six_bit_minima
    steps = torch.where(d == 0, 1.0, d)[..., None]
    codes = torch.round((x + dmin[..., None]) / steps).clamp(0, 15)
    codes = torch.where(d[..., None] == 0, torch.zeros_like(codes), codes).to(torch.uint8)
    packed = codes[:, ::2] | codes[:, 1::2] << 4
    s, m = six_bit_scales.to(torch.uint8), six_bit_minima.to(torch.uint8)
    head = (
        s[:, :4] | s[:, 4:] >> 4 << 6,
        m[:, :4] | m[:, 4:] >> 4 << 6,
        s[:, 4:] & 15 | (m[:, 4:] & 15) << 4,
    )
    return torch.cat((both.view(torch.uint8), *head, packed.flatten(1)), 1)


def _share(values: Tensor, top: Tensor) -> Tensor:
    return torch.round(63 * values / torch.where(top == 0, 1.0, top)).clamp(0, 63)


def _fitted(x: Float[Tensor, "blocks 8 32"]) -> tuple[Tensor, Tensor]:
    """Scale and minimum of each sub-block, x = scale q - minimum, both at least 0.

    Tries several level spacings, fits scale and minimum by weighted least squares, and keeps the one with the
    least weighted error. Weights are |x| + root mean square, as in llama.cpp's reference quantiser.
    """
    weights = x.square().mean(-1, keepdim=True).sqrt() + x.abs()
    low, high = x.amin(-1).clamp(max=0), x.amax(-1)
    spread = torch.where(high > low, high - low, torch.ones_like(high))
    best = (high - low).clamp(min=0) / 15
    best_low, best_error = low, torch.full_like(low, torch.inf)
    total, first = weights.sum(-1), (weights * x).sum(-1)
    for step in (0.0, *STEPS.tolist()):
        codes = torch.round((x - low[..., None]) * ((15 + step) / spread)[..., None]).clamp(0, 15)
        weighted = weights * codes
        sum_codes, squares, mixed = weighted.sum(-1), (weighted * codes).sum(-1), (weighted * x).sum(-1)
        determinant = total * squares - sum_codes.square()
        safe = torch.where(determinant > 0, determinant, torch.ones_like(determinant))
        scale = (total * mixed - first * sum_codes) / safe
        offset = (squares * first - sum_codes * mixed) / safe
        above = offset > 0  # a minimum cannot be stored with that sign
        scale = torch.where(above, mixed / squares.clamp(min=1e-30), scale)
        offset = torch.where(above, torch.zeros_like(offset), offset)
        error = (weights * (scale[..., None] * codes + offset[..., None] - x).square()).sum(-1)
        better = (determinant > 0) & (scale >= 0) & (error < best_error)
        best, best_low = torch.where(better, scale, best), torch.where(better, offset, best_low)
        best_error = torch.where(better, error, best_error)
    return best, -best_low
