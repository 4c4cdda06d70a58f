"""The optimiser against its formula, and which parameters it decays."""

import math

import numpy as np
import pytest
import torch

from camelid.base.errors import CamelidError
from camelid.train.optim import adafactor, adamw, check_adafactor_rate
from camelid.train.state import load_state, save_state, training_state

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


def rms(values):
    return np.sqrt(np.mean(values**2))


def adafactor_by_hand(parameter, gradients, rates, decay):
    """Shazeer and Stern 2018, algorithm 4 with section 8's beta2, and T5's scale max(1e-3,
    RMS(parameter))."""
    rows = columns = variance = 0.0
    for update, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        beta2 = 1 - update**-0.8
        square = gradient**2
        if gradient.ndim == 2:
            rows = beta2 * rows + (1 - beta2) * square.mean(1)
            columns = beta2 * columns + (1 - beta2) * square.mean(0)
            variance = np.outer(rows, columns) / rows.mean()
        else:
            variance = beta2 * variance + (1 - beta2) * square
        step = gradient / np.sqrt(variance)
        step = step / max(1.0, rms(step))
        scale = max(1e-3, rms(parameter))
        parameter = parameter * (1 - rate * decay) - rate * scale * step
    return parameter


@pytest.mark.parametrize("shape", [(130, 140), (3, 5), (7,)])
@pytest.mark.parametrize("size", [1.0, 1e-5])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adafactor_equals_the_formula(shape, size, decay):
    chance = np.random.default_rng(0)
    start = size * chance.standard_normal(shape)
    # Small gradients, and ever larger ones: the update is cut at an RMS of 1.
    gradients = [1e-6 * 2**update * chance.standard_normal(shape) for update in range(4)]
    rates = [0.01, 0.02, 0.03, 0.04]
    parameter = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
    optimizer = adafactor([("parameter", parameter)], weight_decay=decay, betas=(0.9, 0.95), eps=1e-8)
    for gradient, rate in zip(gradients, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        parameter.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
    expected = adafactor_by_hand(start, gradients, rates, decay if len(shape) == 2 else 0.0)
    moved = parameter.detach().double().numpy() - start
    np.testing.assert_allclose(moved, expected - start, rtol=1e-3, atol=1e-4 * rms(expected - start))
    state = optimizer.state[parameter]
    assert set(state) == ({"step", "row_var", "col_var"} if len(shape) == 2 else {"step", "variance"})


def test_rows_without_a_gradient_stay(tiny):
    """The embeddings of tokens that never came; 0 / 0 would be no number."""
    parameter = torch.nn.Parameter(torch.ones(4, 3))
    optimizer = adafactor([("parameter", parameter)], weight_decay=0.0)
    optimizer.param_groups[0]["lr"] = 0.1
    parameter.grad = torch.zeros(4, 3)
    parameter.grad[0] = 1.0
    optimizer.step()
    assert torch.equal(parameter.detach()[1:], torch.ones(3, 3))
    assert parameter.detach()[0, 0] < 1


def test_a_saved_adafactor_goes_on_bit_for_bit(tiny, tmp_path):
    def update(model, optimizer, seeds):
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            for group in optimizer.param_groups:
                group["lr"] = 0.01
            optimizer.step()

    whole, cut, resumed = tiny(), tiny(), tiny()
    update(whole, adafactor(whole.named_parameters(), weight_decay=0.1), range(4))
    first = adafactor(cut.named_parameters(), weight_decay=0.1)
    update(cut, first, range(2))
    save_state(tmp_path, training_state(cut, first, 2))
    second = adafactor(resumed.named_parameters(), weight_decay=0.1)
    assert load_state(tmp_path, resumed, second) == 2
    update(resumed, second, range(2, 4))
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_rate_that_torch_would_cut_is_refused():
    check_adafactor_rate(lambda step: 1 / math.sqrt(max(step, 10_000)), 50_000)  # T5's own
    check_adafactor_rate(lambda step: 0.01, 10_000)
    with pytest.raises(CamelidError, match=r"0\.00995 at update 10101, but the schedule gives 0\.0101"):
        check_adafactor_rate(lambda step: 0.0101 if step == 10_100 else 0.001, 20_000)
