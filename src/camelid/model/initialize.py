"""Weight initialisation, as in the papers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from camelid.model.spec import ModelSpec

WRITES_TO_RESIDUAL = ("o_proj.weight", "down_proj.weight")


@torch.no_grad()
def initialize(
    model: nn.Module,
    spec: ModelSpec,
    seed: int,
    std: float | None = None,
    put: Callable[[nn.Parameter, Tensor], object] | None = None,
) -> None:
    """Draws every parameter from a normal distribution; gains are 1 and biases 0.

    GPT-2's way: one std for all, matrices that write to the residual stream divided by sqrt(2 layers)
    (section 2.3 of the paper), learned positions half of it (its code). std: by default sqrt(2 / (5 width))
    (Nguyen and Salazar 2019, arXiv:1910.05895, section 2.2), which is GPT-2's 0.02 at width 1,000 and lets
    narrow models learn attention sooner. T5's and PaLM's way (arXiv:2204.02311, section 5), where there is an
    encoder or the outputs are scaled: embeddings 1 and matrices 1/sqrt(inputs). In both, queries of unscaled
    attention are divided by sqrt(head_dim).

    put: places a whole new tensor, one at a time, where a parameter holds only a part of it.
    """
    generator = torch.Generator().manual_seed(seed)
    by_inputs = spec.output_scale != 1 or spec.encoder_layers > 0
    common = (2 / (5 * spec.hidden_size)) ** 0.5 if std is None else std
    for name, parameter in model.named_parameters():
        drawn = parameter if put is None else torch.empty(parameter.shape, dtype=parameter.dtype)
        if name.endswith(("norm.weight", "layernorm.weight")):
            drawn.fill_(1.0)
        elif name.endswith("bias"):
            drawn.zero_()
        else:
            scale = _by_inputs(name, parameter, spec) if by_inputs else _common(name, common, spec)
            if spec.attention_scale == 1 and name.endswith("q_proj.weight"):
                scale *= spec.head_dim**-0.5
            drawn.normal_(0.0, scale, generator=generator)
        if put is not None:
            put(parameter, drawn)


def _common(name: str, std: float, spec: ModelSpec) -> float:
    if name.endswith(WRITES_TO_RESIDUAL):
        return float(std / (2 * spec.num_layers) ** 0.5)
    return std / 2 if name == "embed_positions.weight" else std


def _by_inputs(name: str, parameter: nn.Parameter, spec: ModelSpec) -> float:
    width = float(spec.hidden_size**-0.5)
    if name == "embed_tokens.weight":
        # If it is also the output projection and outputs are not scaled, logits would start far too large.
        return width if spec.tie_embeddings and spec.output_scale == 1 else 1.0
    return width if name.endswith("relative_bias.weight") else float(parameter.shape[1] ** -0.5)
