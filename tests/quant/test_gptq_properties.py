"""What holds of GPTQ whatever the weights and inputs, over generated draws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from camelid.base.errors import WrongCall
from camelid.quant.gptq import gptq
from camelid.quant.round_to_nearest import round_to_nearest

DRAW = {"seed": st.integers(0, 10_000), "bits": st.sampled_from([2, 3, 4, 8]), "act_order": st.booleans()}
INNER = 24


def weights(seed: int, outer: int = 5) -> Tensor:
    return torch.randn(outer, INNER, generator=torch.Generator().manual_seed(seed))


def moments(seed: int, inner: int = INNER, samples: int = 256) -> Tensor:
    """The second moments of inputs that are mixed of each other."""
    draw = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(samples, inner, generator=draw) @ torch.randn(inner, inner, generator=draw)
    return x.T @ x / samples


def loss(weight: Tensor, quantized: Tensor, second: Tensor) -> float:
    """||(W - W') X||^2 over the samples."""
    off = weight - quantized
    return float(((off @ second) * off).sum())


@settings(max_examples=60, deadline=None)
@given(**DRAW, group=st.sampled_from([8, INNER]))
def test_the_output_errs_less_than_by_rounding(seed, bits, act_order, group):
    # Of one row alone, what is clamped at the end of the range can outweigh the rest; of 32 together it never
    # does.
    weight, second = weights(seed, outer=32), moments(seed)
    plain = round_to_nearest(weight, bits, group)
    made = gptq(weight, second, bits, group, act_order=act_order)
    assert torch.equal(made.scales, plain.scales)
    assert loss(weight, made.dequantize(), second) < 0.9 * loss(weight, plain.dequantize(), second)


@settings(max_examples=40, deadline=None)
@given(**DRAW, group=st.sampled_from([4, 12, INNER]), damping=st.floats(0, 1))
def test_inputs_of_one_size_that_do_not_depend_on_each_other_are_rounded(
    seed, bits, act_order, group, damping
):
    weight, plain = weights(seed), round_to_nearest(weights(seed), bits, group)
    made = gptq(weight, torch.eye(INNER), bits, group, act_order=act_order, damping=damping)
    assert torch.equal(made.codes, plain.codes)
    assert torch.equal(made.dequantize(), plain.dequantize())


@settings(max_examples=40, deadline=None)
@given(**DRAW, samples=st.sampled_from([1, 5, 256]), shift=st.floats(-3, 3))
def test_codes_stay_in_their_range_whatever_is_made_good(seed, bits, act_order, samples, shift):
    made = gptq(weights(seed) + shift, moments(seed, samples=samples), bits, 8, act_order=act_order)
    assert int(made.codes.max()) < 2**bits
    assert made.dequantize().isfinite().all()


@settings(max_examples=40, deadline=None)
@given(**DRAW, power=st.integers(-6, 6))
def test_the_size_of_the_inputs_does_not_matter(seed, bits, act_order, power):
    # Powers of four, whose roots are exact.
    weight, second = weights(seed), moments(seed)
    made = gptq(weight, second, bits, 8, act_order=act_order)
    scaled = gptq(weight, second * 4.0**power, bits, 8, act_order=act_order)
    assert torch.equal(made.codes, scaled.codes)


@settings(max_examples=40, deadline=None)
@given(seed=DRAW["seed"], bits=DRAW["bits"])
def test_act_order_is_the_plain_way_over_columns_in_that_order(seed, bits):
    weight, second = weights(seed), moments(seed)
    order = second.diagonal().argsort(descending=True)
    sorted_ = gptq(weight[:, order], second[order][:, order], bits, INNER, act_order=False)
    made = gptq(weight, second, bits, INNER, act_order=True)
    assert torch.equal(made.codes[:, order], sorted_.codes)


@settings(max_examples=40, deadline=None)
@given(seed=DRAW["seed"], bits=DRAW["bits"])
def test_what_order_inputs_stand_in_does_not_matter_in_act_order(seed, bits):
    weight, second = weights(seed), moments(seed)
    order = torch.randperm(INNER, generator=torch.Generator().manual_seed(seed))
    made = gptq(weight, second, bits, INNER)
    permuted = gptq(weight[:, order], second[order][:, order], bits, INNER)
    assert torch.equal(made.codes[:, order], permuted.codes)


@settings(max_examples=40, deadline=None)
@given(**DRAW)
def test_blocks_of_inputs_that_do_not_depend_on_each_other_may_change_places(seed, bits, act_order):
    half = INNER // 2
    second = torch.block_diag(moments(seed, half), moments(seed + 7, half))
    weight, swapped = weights(seed), torch.arange(INNER).roll(half)
    made = gptq(weight, second, bits, half, act_order=act_order)
    other = gptq(weight[:, swapped], second[swapped][:, swapped], bits, half, act_order=act_order)
    assert torch.equal(made.codes[:, swapped], other.codes)


@settings(max_examples=40, deadline=None)
@given(**DRAW)
def test_outputs_do_not_depend_on_each_other(seed, bits, act_order):
    weight, second = weights(seed), moments(seed)
    made = gptq(weight, second, bits, 8, act_order=act_order)
    alone = gptq(weight[[3]], second, bits, 8, act_order=act_order)
    assert torch.equal(made.codes[[3]], alone.codes)


@settings(max_examples=20, deadline=None)
@given(**DRAW, power=st.integers(-6, 6))
def test_inputs_that_are_always_zero_change_nothing_for_the_others(seed, bits, act_order, power):
    # A group's range holds 0 anyway.
    weight, live = weights(seed), torch.arange(INNER) % 3 > 0
    weight[:, ~live], second = 0, moments(seed) * 4.0**power
    second[~live] = second[:, ~live] = 0
    made = gptq(weight, second, bits, INNER, act_order=act_order)
    alone = gptq(weight[:, live], second[live][:, live], bits, int(live.sum()), act_order=act_order)
    assert (made.codes[:, live] == alone.codes).float().mean() > 0.98
    assert made.dequantize()[:, ~live].eq(0).all()


@settings(max_examples=20, deadline=None)
@given(**DRAW)
def test_an_input_given_twice_is_no_fault(seed, bits, act_order):
    second = moments(seed)
    twin = torch.arange(INNER)
    twin[5] = 4
    second = second[twin][:, twin]
    weight = weights(seed)
    made = gptq(weight, second, bits, INNER, act_order=act_order, damping=0.0).dequantize()
    assert made.isfinite().all()


def test_damping_grows_tenfold_until_the_hessian_can_be_factored():
    weight, second = weights(0), moments(0)
    mean, least = second.diagonal().mean(), torch.linalg.eigvalsh(second)[0]
    # Its least eigenvalue is now -0.05 of the mean diagonal, which 0.01 does not lift above 0 and 0.1 does.
    share = (least / mean + 0.05) / 1.05
    indefinite = second - share * mean * torch.eye(INNER)
    wanted = gptq(weight, indefinite, 4, 8, damping=0.1)
    assert torch.equal(gptq(weight, indefinite, 4, 8, damping=0.01).codes, wanted.codes)
    assert not torch.equal(gptq(weight, indefinite, 4, 8, damping=0.5).codes, wanted.codes)


@pytest.mark.parametrize("damping", [-0.1, 1.5, float("nan")])
def test_damping_is_a_share(damping):
    with pytest.raises(WrongCall, match="from 0 to 1"):
        gptq(weights(0), moments(0), 4, 8, damping=damping)
