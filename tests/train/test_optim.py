"""The optimiser against its formula, and which parameters it decays."""

import torch

from camelid.train.optim import adamw

SETTINGS = {"weight_decay": 0.1, "betas": (0.9, 0.95), "eps": 1e-8}


def test_matrices_decay_gains_and_biases_do_not(tiny):
    model = tiny(tie_embeddings=True)
    for decay, names in groups(model):
        assert decay in (0.1, 0.0)
        for name in names:
            is_gain = name.endswith("norm.weight")
            assert decay == (0.0 if is_gain else 0.1), name
    every = [name for _, names in groups(model) for name in names]
    assert sorted(every) == sorted(name for name, _ in model.named_parameters())


def groups(model):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optimizer = adamw(model.named_parameters(), **SETTINGS)
    return [
        (group["weight_decay"], [names[id(parameter)] for parameter in group["params"]])
        for group in optimizer.param_groups
    ]


def test_frozen_parameters_are_left_out(tiny):
    model = tiny()
    model.embed_tokens.weight.requires_grad_(False)
    every = [name for _, names in groups(model) for name in names]
    assert "embed_tokens.weight" not in every
    assert len(every) == len(list(model.parameters())) - 1


def test_two_updates_equal_the_formula():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.nn.Parameter(torch.randn(3, 4, generator=generator))
    gain = torch.nn.Parameter(torch.randn(4, generator=generator))
    optimizer = adamw([("matrix", matrix), ("gain", gain)], **SETTINGS)
    expected = {parameter: parameter.detach().double() for parameter in (matrix, gain)}
    mean = {parameter: torch.zeros_like(value) for parameter, value in expected.items()}
    square = {parameter: torch.zeros_like(value) for parameter, value in expected.items()}
    for update, rate in ((1, 0.01), (2, 0.02)):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for parameter, decay in ((matrix, 0.1), (gain, 0.0)):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            gradient = parameter.grad.double()
            # Loshchilov and Hutter 2019, algorithm 2, with the decay times the learning rate as in torch.
            mean[parameter] = 0.9 * mean[parameter] + 0.1 * gradient
            square[parameter] = 0.95 * square[parameter] + 0.05 * gradient**2
            unbiased_mean = mean[parameter] / (1 - 0.9**update)
            unbiased_square = square[parameter] / (1 - 0.95**update)
            step = unbiased_mean / (unbiased_square.sqrt() + 1e-8)
            expected[parameter] = expected[parameter] * (1 - rate * decay) - rate * step
        optimizer.step()
    for parameter, value in expected.items():
        torch.testing.assert_close(parameter.detach().double(), value, rtol=1e-6, atol=1e-7)
