"""Muon against torch's own, its orthogonalisation against the singular values, and who takes what."""

import pytest
import torch

from camelid.model.architectures import TRAITS
from camelid.model.transformer import Transformer
from camelid.recipes.model_shape import ModelShape
from camelid.train import optim
from camelid.train.optim import Muon, adamw, orthogonalised
from camelid.train.state import load_state, save_state, training_state

SETTINGS = {"weight_decay": 0.1, "betas": (0.9, 0.95), "eps": 1e-8}


def give_gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def update(model, optimizers, seeds):
    for seed in seeds:
        give_gradients(model, seed)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * (seed + 1)
            optimizer.step()


def changes(model, before):
    return {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}


def test_updates_equal_those_of_torch(tiny):
    mine, theirs = tiny(), tiny()
    before = {name: parameter.detach().clone() for name, parameter in mine.named_parameters()}
    update(mine, [Muon(mine.named_parameters(), **SETTINGS)], range(3))
    named = dict(theirs.named_parameters())
    matrices = [name for name in named if name.startswith("layers.") and named[name].ndim == 2]
    muon = torch.optim.Muon(
        [named[name] for name in matrices], weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    rest = adamw([(name, named[name]) for name in named if name not in matrices], **SETTINGS)
    update(theirs, [muon, rest], range(3))
    ours, expected = changes(mine, before), changes(theirs, before)
    for name in named:
        # torch iterates in bfloat16, which leaves two to three digits.
        tolerance = 0.03 if name in matrices else 1e-6
        assert (ours[name] - expected[name]).norm() <= tolerance * expected[name].norm(), name


def test_parts_of_the_matrices_of_a_shape_give_the_same(tiny, monkeypatch):
    """Large sharded models gather a few matrices at a time; 1 value: each by itself."""
    together, apart = tiny(), tiny()
    update(together, [Muon(together.named_parameters(), **SETTINGS)], range(3))
    taken = []
    monkeypatch.setattr(
        optim, "orthogonalised", lambda given: taken.append(len(given)) or orthogonalised(given)
    )
    monkeypatch.setattr(optim, "BATCH_VALUES", 1)
    update(apart, [Muon(apart.named_parameters(), **SETTINGS)], range(3))
    assert set(taken) == {1}
    for ours, theirs in zip(apart.parameters(), together.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 16, 40), (2, 40, 16)])
def test_singular_values_become_nearly_one_and_vectors_stay(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalised(matrices)
    assert result.shape == shape
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.3
    assert values.max() < 1.3
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ result @ v.mT
    off = inner - torch.diag_embed(inner.diagonal(dim1=-2, dim2=-1))
    assert off.abs().max() < 1e-3


TABLES = ("embed_tokens", "embed_positions", "relative_bias", "lm_head")


@pytest.mark.parametrize("architecture", TRAITS)
def test_matrices_of_every_block_are_orthogonalised_and_every_parameter_updated_once(architecture):
    shape = ModelShape(
        architecture=architecture, hidden_size=32, num_layers=2, num_heads=4, context_length=24
    )
    model = Transformer(shape.spec(61))
    groups = Muon(model.named_parameters(), **SETTINGS).param_groups
    every = [parameter for group in groups for parameter in group["params"]]
    assert len(every) == len({id(parameter) for parameter in every}) == len(list(model.parameters()))
    orthogonal = {id(parameter) for parameter in groups[0]["params"]}
    linear = {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    assert orthogonal == linear
    for name, parameter in model.named_parameters():
        assert (id(parameter) in orthogonal) == (
            parameter.ndim == 2 and not any(table in name for table in TABLES)
        )


def test_t5_moves_by_orthogonal_updates_in_both_stacks():
    shape = ModelShape(architecture="t5", hidden_size=32, num_layers=2, num_heads=4, context_length=24)
    model = Transformer(shape.spec(61)).initialize(0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    update(model, [Muon(model.named_parameters(), **(SETTINGS | {"weight_decay": 0.0}))], [0])
    for name, change in changes(model, before).items():
        if name.endswith("_proj.weight"):
            values = torch.linalg.svdvals(change) / (0.01 * 0.2 * max(change.shape) ** 0.5)
            assert values.median() > 0.6, name
            assert values.max() < 1.3, name


def test_a_saved_state_goes_on_bit_for_bit(tiny, tmp_path):
    whole, cut = tiny(), tiny()
    update(whole, [Muon(whole.named_parameters(), **SETTINGS)], range(4))
    first = Muon(cut.named_parameters(), **SETTINGS)
    update(cut, [first], range(2))
    save_state(tmp_path, training_state(cut, first, 2))
    resumed = tiny()
    second = Muon(resumed.named_parameters(), **SETTINGS)
    assert load_state(tmp_path, resumed, second) == 2
    update(resumed, [second], range(2, 4))
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
