"""A model begins by believing in every token about alike, whatever it is made of."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from camelid.model.transformer import Transformer
from camelid.recipes.model_shape import ModelShape


@pytest.mark.parametrize("departure", [{}, {"positions": "relative"}, {"architecture": "palm"}])
def test_first_predictions_are_near_uniform(departure):
    spec = ModelShape(hidden_size=64, num_layers=2, num_heads=2, context_length=32, **departure).spec(512)
    ids = torch.arange(64).view(2, 32)
    with torch.inference_mode():
        logits = Transformer(spec).initialize(0)(ids)
    assert cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()) < math.log(512) + 1
