"""Recomputation changes no bit of the gradients; the selective one repeats no product."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from camelid.base.errors import WrongCall
from camelid.model.adapters import add_lora
from camelid.model.lora import LoRA
from camelid.model.transformer import KEPT
from camelid.recipes.training import Training
from camelid.train.fit import prepare
from camelid.train.objectives import cross_entropy


class Products(TorchDispatchMode):
    """Counts linears and attention."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.count += function in KEPT
        return function(*arguments, **(keywords or {}))


def prepared(model, recompute):
    return prepare(model, Training(steps=1, recompute_activations=recompute, compile=False))


def test_gradients_are_the_same_bits_and_only_the_full_one_repeats_products(tiny, random_batch):
    found = {}
    for recompute in (False, "selective", True):
        model = prepared(tiny(), recompute)
        with Products() as products:
            cross_entropy(model)(random_batch()).backward()
        found[recompute] = [products.count, *(each.grad for each in model.parameters())]
    plain = found.pop(False)
    for recompute, (count, *gradients) in found.items():
        assert all(map(torch.equal, gradients, plain[1:])), recompute
        assert (count > plain[0]) == (recompute is True)


def test_selective_recomputation_of_adapters_is_refused(tiny):
    model = add_lora(tiny(), LoRA(2, 4.0), ["*layers.*_proj"])
    with pytest.raises(WrongCall, match="adapters add to the results"):
        prepared(model, "selective")
