"""Reward models: a Transformer whose output projection has one row, a number after every token.

transformers' `...ForSequenceClassification` with one label is the same model. The number after the last token
of a conversation is its reward; those before are a value function (PPO's begins as one).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.model.layers import OutputProjection, Readout
from camelid.model.transformer import Transformer


def put_reward_head(model: Transformer) -> Transformer:
    """Replaces the output projection by a row of zeros: every reward is 0 before training; in place.

    `model.spec` keeps describing the model below the head.
    """
    weight = model.embed_tokens.weight
    head = OutputProjection(model.spec.hidden_size, 1, bias=False)
    torch.nn.init.zeros_(head.weight)
    model.lm_head = head.to(weight.device).train(model.training)
    return model


def values(
    hidden: Float[Tensor, "*batch width"], weight: Float[Tensor, "labels width"]
) -> Float[Tensor, "*batch"]:
    """The readout of the head, in float32: the value after each token; see `Transformer.forward`."""
    return hidden.float() @ weight[0].float()


@torch.no_grad()
def last_values(
    model: Transformer,
    texts: Sequence[Sequence[int]],
    rows: int,
    dtype: torch.dtype | None = None,
    readout: Readout = values,
) -> list[float]:
    """The readout after the last token of each text, `rows` texts of similar length at a time, in the model's
    present mode."""
    found, device = [0.0] * len(texts), model.embed_tokens.weight.device
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        lengths = torch.tensor([len(texts[at]) for at in chosen])
        padded = torch.zeros(len(chosen), int(lengths.max()), dtype=torch.long)
        for row, at in zip(padded, chosen, strict=True):
            row[: len(texts[at])] = torch.tensor(texts[at])
        every = model(padded.to(device), dtype=dtype, output=readout).float().cpu()
        for at, value in zip(chosen, every.gather(1, lengths[:, None] - 1)[:, 0].tolist(), strict=True):
            found[at] = value
    return found
