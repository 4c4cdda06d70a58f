"""The value head of PPO: a linear on the hidden states of the policy itself.

One trunk for both, as in Ziegler et al. (arXiv:1909.08593, section 2.2): a forward pass gives probabilities
and values, there is no second copy of the weights, and a policy with an adapter trains its values through the
same adapter. InstructGPT trained a separate value model, which began as the reward model.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from camelid.model.transformer import Transformer

WEIGHT, BIAS = "value_weight", "value_bias"
HEAD = (WEIGHT, BIAS)
"""The head's parameters; the engine and the saved model do without them."""


def add_value_head(model: Transformer) -> None:
    """Adds a head that values everything 0."""
    place = model.embed_tokens.weight.device
    model.register_parameter(WEIGHT, nn.Parameter(torch.zeros(model.spec.hidden_size, device=place)))
    model.register_parameter(BIAS, nn.Parameter(torch.zeros(1, device=place)))


def has_value_head(model: Transformer) -> bool:
    """Whether there is one."""
    return hasattr(model, WEIGHT)


def remove_value_head(model: Transformer) -> None:
    """Leaves the language model."""
    delattr(model, WEIGHT)
    delattr(model, BIAS)


def values_of(model: Transformer, hidden: Float[Tensor, "*batch states"]) -> Float[Tensor, "*batch"]:
    """The value before each next token, in float32.

    hidden: states as a readout gets them, which may have further columns (for the bias of the output).
    """
    weight, bias = model.get_parameter(WEIGHT), model.get_parameter(BIAS)
    return hidden[..., : len(weight)].float() @ weight + bias
