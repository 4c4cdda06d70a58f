"""GPTQ and AWQ beside brute force, by hand, and on a model of our own."""

from pathlib import Path

import pytest
import torch

from camelid.base.errors import CamelidError
from camelid.cli.main import main
from camelid.formats.load import load_model
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.quant.awq import clipped, smooth
from camelid.quant.gptq import gptq
from camelid.quant.moments import SHARED_INPUTS, STRIP, Moments, layer_by_layer
from camelid.quant.packed import PackedLinear
from camelid.quant.quantize import Calibrated, quantize_model
from camelid.quant.round_to_nearest import round_to_nearest


def correlated(inner: int, seed: int = 0, rank: int | None = None) -> torch.Tensor:
    """The second moments of inputs that depend on each other."""
    x = torch.randn(256, rank or inner, generator=torch.Generator().manual_seed(seed))
    mixed = x @ torch.randn(rank or inner, inner, generator=torch.Generator().manual_seed(seed + 1))
    return mixed.T @ mixed / len(mixed)


def loss(weight: torch.Tensor, quantized: torch.Tensor, second: torch.Tensor) -> float:
    off = weight - quantized
    return float(((off @ second) * off).sum())


def column_after_column(weight, second, scales, zeros, bits, group, order, damping, static=True):
    """Optimal brain quantisation in a given order: the inverse Hessian of the columns left, found anew every
    time.

    Without `static`, the scales and zero points given are replaced, each when its group begins.
    """
    hessian = second.double() + damping * second.diagonal().double().mean() * torch.eye(len(second))
    weight, codes = weight.double().clone(), torch.zeros(weight.shape)
    left = list(order)
    for column in order:
        if not static and column % group == 0:
            fitted = round_to_nearest(weight[:, column : column + group].float(), bits, group)
            scales[:, column // group], zeros[:, column // group] = fitted.scales[:, 0], fitted.zeros[:, 0]
        inverse = hessian[left][:, left].inverse()
        scale, zero = scales[:, column // group].double(), zeros[:, column // group]
        code = (torch.round(weight[:, column] / scale) + zero).clamp(0, 2**bits - 1)
        codes[:, column] = code
        error = (weight[:, column] - scale * (code - zero)) / inverse[0, 0]
        weight[:, left] -= error[:, None] * inverse[0]
        left.remove(column)
    return codes


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize(("bits", "inner", "group"), [(4, 12, 4), (3, 160, 160), (2, 150, 75), (8, 9, 9)])
def test_gptq_is_optimal_brain_quantisation_column_after_column(bits, inner, group, act_order):
    weight, second = torch.randn(5, inner, generator=torch.Generator().manual_seed(3)), correlated(inner)
    made = gptq(weight, second, bits, group, act_order=act_order)
    order = second.diagonal().argsort(descending=True).tolist() if act_order else list(range(inner))
    plain = round_to_nearest(weight, bits, group)
    assert torch.equal(made.scales, plain.scales)
    wanted = column_after_column(weight, second, plain.scales, plain.zeros, bits, group, order, 0.01)
    # Nearly every code: ties of rounding may fall either way after hundreds of updates.
    assert (made.codes == wanted).float().mean() > 0.995
    # At 8 bits what a clamped code at the end of the range loses can outweigh the rest.
    assert bits == 8 or loss(weight, made.dequantize(), second) < loss(weight, plain.dequantize(), second)


@pytest.mark.parametrize(("inner", "group"), [(384, 192), (262, 131), (256, 128), (96, 8)])
def test_groups_fitted_on_the_way_begin_where_they_begin(inner, group):
    weight, second = (
        torch.randn(3, inner, generator=torch.Generator().manual_seed(3)),
        correlated(inner, rank=90),
    )
    made = gptq(weight, second, 3, group, act_order=False, static_groups=False)
    plain = round_to_nearest(weight, 3, group)
    scales, zeros = plain.scales.clone(), plain.zeros.clone()
    codes = column_after_column(
        weight, second, scales, zeros, 3, group, list(range(inner)), 0.01, static=False
    )
    assert torch.allclose(made.scales, scales, rtol=1e-3)
    assert not torch.allclose(plain.scales, scales, rtol=1e-3)
    assert (made.codes == codes).float().mean() > 0.995


def test_gptq_finds_the_best_codes_of_two_columns():
    weight, second = torch.tensor([[0.44, 0.3, 0.9, -0.6]]), correlated(4, seed=5)
    made = gptq(weight, second, 4, 4, damping=1e-8)
    last = second.diagonal().argmin()
    best = min(
        loss(weight, dequantised, second)
        for code in range(16)
        for dequantised in [made.dequantize().index_fill(1, last, float(made.scales * (code - made.zeros)))]
    )
    assert loss(weight, made.dequantize(), second) == pytest.approx(best)


def test_inputs_that_do_not_depend_on_each_other_are_rounded_to_the_nearest():
    weight = torch.randn(6, 32, generator=torch.Generator().manual_seed(1))
    made, plain = gptq(weight, torch.eye(32), 4, 8), round_to_nearest(weight, 4, 8)
    assert torch.equal(made.codes, plain.codes)


def test_groups_fitted_on_the_way_hold_the_weights_that_they_are_given():
    weight, second = torch.randn(6, 64, generator=torch.Generator().manual_seed(1)), correlated(64)
    moving = gptq(weight, second, 4, 16, act_order=False, static_groups=False)
    plain = round_to_nearest(weight, 4, 16)
    assert torch.equal(moving.scales[:, 0], plain.scales[:, 0])
    assert not torch.equal(moving.scales[:, 1:], plain.scales[:, 1:])
    assert loss(weight, moving.dequantize(), second) < loss(weight, plain.dequantize(), second)
    with pytest.raises(CamelidError, match="use --static-groups"):
        gptq(weight, second, 4, 16, static_groups=False)


def test_dead_inputs_and_singular_hessians():
    weight, second = torch.randn(4, 16, generator=torch.Generator().manual_seed(1)), correlated(16, rank=3)
    second[:, 5] = second[5] = 0
    made = gptq(weight, second, 4, 16, damping=0.0)
    assert made.dequantize()[:, 5].eq(0).all()
    assert made.dequantize().isfinite().all()
    with pytest.raises(CamelidError, match="singular even with a damping of 1"):
        gptq(weight, second - 40 * torch.eye(16), 4, 16)


def tiny(**changes) -> Transformer:
    settings = {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 4,
        "feed_forward_width": 64,
        "vocab_size": 50,
    }
    return Transformer(ModelSpec.llama(**(settings | changes))).initialize(0, std=0.3)


TOKENS = torch.randint(50, (6, 24), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("inner", [40, STRIP, 2 * STRIP + 40])
def test_moments_are_the_means_over_all_that_is_added(inner):
    x = torch.randn(300, inner, generator=torch.Generator().manual_seed(1))
    moments = Moments.empty(inner)
    moments.add(x[:100])
    moments.add(x[100:].view(2, 100, inner).bfloat16())
    x[100:] = x[100:].bfloat16().float()
    wide = x.double()
    assert moments.tokens == 300
    assert torch.allclose(moments.second.double(), wide.T @ wide / 300, atol=1e-6)
    assert torch.allclose(moments.magnitude.double(), wide.abs().mean(0), atol=1e-6)


@pytest.mark.parametrize("true_sequential", [True, False])
def test_moments_are_those_of_the_inputs_that_each_linear_is_given(true_sequential):
    model, seen = tiny(), {}

    def watch(key, module):
        module.register_forward_pre_hook(
            lambda module, given: seen.update({key: given[0]}) if key not in seen else None
        )

    for layer, block in enumerate(model.layers):
        for names in SHARED_INPUTS:
            watch((layer, names[0]), block.get_submodule(names[0]))
    with torch.inference_mode():
        model(TOKENS)
    wanted = {key: x.flatten(0, 1) for key, x in seen.items()}
    for layer, names, moments in layer_by_layer(model, TOKENS, true_sequential=true_sequential):
        x = wanted.pop((layer, names[0]))
        assert moments.tokens == len(x)
        assert torch.allclose(moments.second, x.T @ x / len(x), atol=1e-4, rtol=1e-4)
        assert torch.allclose(moments.magnitude, x.abs().mean(0), atol=1e-5)
    assert not wanted


def test_later_layers_see_what_the_replaced_ones_say():
    model, plain = tiny(), dict.fromkeys(range(2))
    for layer, names, moments in layer_by_layer(tiny(), TOKENS):
        plain[layer, names] = moments.second.clone()
    for layer, names, moments in layer_by_layer(model, TOKENS):
        assert torch.equal(moments.second, plain[layer, names]) == (names == SHARED_INPUTS[0] and layer == 0)
        if names == SHARED_INPUTS[0]:
            model.layers[layer].self_attn.v_proj.weight.data *= 2


def test_smoothing_changes_no_output_and_takes_the_best_of_the_grid():
    model = tiny()
    with torch.inference_mode():
        before = model(TOKENS)
        steps = list(layer_by_layer(model, TOKENS, true_sequential=False))
        for layer, names, moments in steps:
            block, weight = model.layers[layer], None
            second = moments.second.clone()
            weight = block.get_submodule(names[0]).weight.clone()
            scales = smooth(block, names, moments, 3, 16)
            assert torch.allclose(moments.second, second / scales[:, None] / scales, rtol=1e-4)
            if len(names) == 1:
                own = round_to_nearest(weight * scales, 3, 16).dequantize() / scales
                unscaled = round_to_nearest(weight, 3, 16).dequantize()
                assert loss(weight, own, second) <= loss(weight, unscaled, second) * 1.0001
        assert torch.allclose(model(TOKENS), before, atol=1e-4)


def test_clipping_takes_the_range_that_errs_least():
    weight, second = torch.randn(3, 8, generator=torch.Generator().manual_seed(4)), correlated(8)
    weight[:, 2] = 6
    made = clipped(weight, second, 2, 8)
    tried = [weight.clamp(-bound, bound) for bound in ()]
    for step in range(10):
        bound = weight.abs().amax(1, keepdim=True) * (1 - step / 20)
        tried.append(round_to_nearest(weight.clamp(-bound, bound), 2, 8).dequantize())
    for row in range(3):
        best = min(loss(weight[row : row + 1], each[row : row + 1], second) for each in tried)
        assert loss(weight[row : row + 1], made.dequantize()[row : row + 1], second) == pytest.approx(best)


@pytest.mark.parametrize("method", ["gptq", "awq"])
@pytest.mark.parametrize("bits", [3, 4])
def test_from_the_command_line_a_model_loses_less_than_by_rounding(method, bits, stories, tmp_path, capsys):
    source, text, fresh = stories
    words = ["quantize", str(source), "--bits", str(bits), "--group-size", "32", "--out"]
    assert main([*words, str(tmp_path / "plain")]) == 0
    assert main([*words, str(tmp_path / "out"), "--method", method]) == 2
    assert "needs calibration text" in capsys.readouterr().err
    looking = ["--method", method, "--calibration", str(text), "--calibration-length", "64"]
    assert main([*words, str(tmp_path / "out"), *looking, "--calibration-rows", "32"]) == 0, (
        capsys.readouterr().err
    )
    with torch.no_grad():
        truth = load_model(source)(fresh).log_softmax(-1)
        divergence = {
            name: float(
                (truth.exp() * (truth - load_model(tmp_path / name)(fresh).log_softmax(-1))).sum(-1).mean()
            )
            for name in ("plain", "out")
        }
    assert divergence["out"] < 0.9 * divergence["plain"], divergence
    assert f'"method": "{method}"' in Path(tmp_path / "out" / "camelid.json").read_text()
    assert main([*words, str(tmp_path / "b"), *looking, "--calibration-rows", "100000"]) == 1
    assert "calibration text has" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_shared_values_and_chosen_linears(method):
    model = tiny(num_kv_heads=2, hidden_size=64)
    chosen = ["layers.1.*_proj", "!*.v_proj"]
    quantize_model(model, 4, 16, chosen, torch.float32, Calibrated(method, TOKENS))
    packed = {path for path, module in model.named_modules() if isinstance(module, PackedLinear)}
    assert packed == {
        f"layers.1.{name}" for names in SHARED_INPUTS for name in names if not name.endswith("v_proj")
    }
