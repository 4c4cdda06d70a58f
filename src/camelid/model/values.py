"""A Transformer that also rates a text: one number after every token, from the logit of a reserved token.

value = gain * logit[reserved] + bias, with two scalars of its own (Cobbe et al., arXiv:2110.14168, appendix
E): the vocabulary has the token's row already, so the rest is an ordinary language model and is stored as
one. Verifiers, reward models and value functions are all this model, trained by different losses.
"""

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer

OWN = ("gain", "bias")
"""The parameters that a Transformer does not have, each with one value: FSDP shards no scalars."""


class ValueModel(Transformer):
    """A Transformer with a value head on the logit of the token `reserved`, which no text contains."""

    def __init__(self, spec: ModelSpec, reserved: int) -> None:
        super().__init__(spec)
        self.reserved = reserved
        self.gain, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    @classmethod
    def of(cls, model: Transformer, reserved: int, gain: float = 1.0, bias: float = 0.0) -> "ValueModel":
        """The model with a value head, sharing its weights' memory."""
        with torch.device("meta"):
            valued = cls(model.spec, reserved)
        own = {"gain": torch.tensor([gain]), "bias": torch.tensor([bias])}
        valued.load_state_dict({**model.state_dict(), **own}, assign=True)
        return valued.train(model.training)

    def values(
        self, hidden: Float[Tensor, "*batch width"], weight: Float[Tensor, "vocab width"]
    ) -> Float[Tensor, "*batch"]:
        """The readout of the head, in float32: the value after each token; see `Transformer.forward`."""
        return self.gain * (hidden.float() @ weight[self.reserved].float()) + self.bias


def with_reserved_token(model: Transformer, used: int) -> tuple[Transformer, int]:
    """The model with a row of the vocabulary that none of the tokenizer's `used` ids takes, and its id.

    That is the first spare row, or a new one of zeros: every value is then 0 before training.
    """
    if used < model.spec.vocab_size:
        return model, used
    spec = dataclasses.replace(model.spec, vocab_size=used + 1)
    with torch.device("meta"):
        grown = Transformer(spec)
    rows = {f"{name}.weight" for name in ("embed_tokens", "lm_head")}
    state = {
        name: F.pad(tensor, (0, 0, 0, 1)) if name in rows else tensor
        for name, tensor in model.state_dict().items()
    }
    grown.load_state_dict(state, assign=True)
    return grown.train(model.training), used
