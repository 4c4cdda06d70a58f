"""Rotary position embedding, with angles in float32, applied to halves."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from camelid.model.spec import LinearScaling, Llama3Scaling, Rotary


def inverse_frequencies(rotary: Rotary, head_dim: int, device: torch.device | None = None) -> Tensor:
    """theta^(-2i/dims) for i < dims/2 in float32, rescaled according to the spec; dims: those rotated."""
    dims = rotary.dims or head_dim
    exponents = torch.arange(0, dims, 2, dtype=torch.float32, device=device) / dims
    frequencies = 1.0 / rotary.theta**exponents
    match rotary.scaling:
        case None:
            return frequencies
        case LinearScaling(factor):
            return frequencies / factor
        case Llama3Scaling() as scaling:
            return _llama3(frequencies, scaling)


def _llama3(frequencies: Tensor, scaling: Llama3Scaling) -> Tensor:
    wavelengths = 2 * math.pi / frequencies
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    # 0 for wavelengths beyond context/low, 1 for those below context/high, linear in 1/wavelength between.
    smooth = ((scaling.original_context_length / wavelengths - low) / (high - low)).clamp(0, 1)
    return frequencies * ((1 - smooth) / scaling.factor + smooth)


def rotation(
    positions: Int[Tensor, "... time"], frequencies: Float[Tensor, " half"]
) -> tuple[Float[Tensor, "... time dim"], Float[Tensor, "... time dim"]]:
    """Cosine and sine of every position's angles, repeated over both halves, in float32."""
    angles = positions[..., None].float() * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(
    x: Float[Tensor, "batch time heads dim"],
    cosine: Float[Tensor, "*batch time rotated"],
    sine: Float[Tensor, "*batch time rotated"],
) -> Float[Tensor, "batch time heads dim"]:
    """(a, b) -> (a cos - b sin, b cos + a sin) on the two halves of the rotated dimensions, in x's dtype."""
    dims = cosine.shape[-1]
    if dims < x.shape[-1]:
        return torch.cat((rotate(x[..., :dims], cosine, sine), x[..., dims:]), dim=-1)
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x.float() * cosine[..., None, :] + turned * sine[..., None, :]).to(x.dtype)
