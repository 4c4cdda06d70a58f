"""The planner against brute force over every shape and number of tokens, and its command."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest

from camelid.base.errors import CamelidError
from camelid.base.progress import in_bytes
from camelid.cli.main import main
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.recipe import load_recipe
from camelid.runs.prediction import Prediction
from camelid.scaling.forms import frontier
from camelid.scaling.plan import Candidate, Limits, candidates, effective_tokens, plan_run
from camelid.scaling.saved import REFITTED

SHAPES = list(candidates(32_000, 2048))


def loss(n: float, d: float) -> float:
    law = REFITTED
    return law["E"] + law["A"] / n ** law["alpha"] + law["B"] / d ** law["beta"]


def memory(shape: Candidate, devices: int) -> float:
    """Bytes of each device that computes many rows of 2,048 tokens one by one, and blocks again."""
    width, layers, n = shape.shape.hidden_size, shape.shape.num_layers, shape.parameters
    inner = shape.spec.feed_forward.width
    block = 4 * width**2 + 3 * width * inner
    kept = 2 * 2048 * width * layers
    logits = 2 * min(2048 * 32_000, 2**24)
    loss_peak = kept + 2 * 2 * 2048 * width + logits + 4 * 32_000 * width
    one_block = 20 * width + 2 * (4 * width + 4 * inner) + 2 * (3 * inner + 3 * width)
    whole = 4 * (2 * block + 32_000 * width) + 4 * n if devices > 1 else 0
    return 16 * n / devices + whole + max(loss_peak, kept - 2 * 2048 * width + 2048 * one_block)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(1e19),
        Limits(1e22),
        Limits(1e22, inference_tokens=1e12),
        Limits(1e22, unique_tokens=5e9),
        Limits(1e23, device_bytes=40e9, devices=2),
        Limits(3e21, inference_tokens=1e11, unique_tokens=1e9, device_bytes=24e9),
    ],
    ids=["small", "large", "inference", "repeats", "memory", "all"],
)
def test_the_plan_is_the_best_of_all_shapes_and_tokens(limits):
    best = math.inf, 0
    for shape in SHAPES:
        if memory(shape, limits.devices) > limits.device_bytes:
            continue
        tokens = np.geomspace(1e8, 1e14, 6000)
        cost = shape.flops_per_token * (tokens + limits.inference_tokens / 3)
        tokens = tokens[cost <= limits.flops]
        if len(tokens):
            epochs = np.maximum(tokens / limits.unique_tokens, 1)
            once = np.minimum(tokens, limits.unique_tokens)
            losses = loss(shape.parameters, once * (1 + 15.39 * (1 - np.exp(-(epochs - 1) / 15.39))))
            best = min(best, (losses.min(), shape.parameters))
    plan = plan_run(loss, limits, SHAPES, rows=lambda *_: 64)
    assert plan.loss <= best[0]
    assert plan.loss == pytest.approx(best[0], rel=3e-4)
    assert plan.candidate.parameters == pytest.approx(best[1], rel=0.12)  # at most one step of the shapes
    assert memory(plan.candidate, limits.devices) <= limits.device_bytes
    inference = plan.candidate.flops_per_token / 3 * limits.inference_tokens
    assert plan.training_flops + inference == pytest.approx(limits.flops)


def test_without_limits_it_is_the_frontier_of_the_law():
    best = frontier(REFITTED)
    plan = plan_run(loss, Limits(1e22), SHAPES)
    assert plan.candidate.parameters == pytest.approx(best["G"] * (1e22 / 6) ** best["a"], rel=0.1)
    assert 15 < plan.tokens / plan.candidate.parameters < 25  # about Chinchilla's 20
    used = plan_run(loss, Limits(1e22, inference_tokens=1e12), SHAPES)
    assert used.candidate.parameters < 0.5 * plan.candidate.parameters
    assert used.tokens > plan.tokens / 2


def test_repeated_tokens_by_hand():
    assert effective_tokens(5e9, 1e10) == 5e9
    assert effective_tokens(4e10, 1e10) == pytest.approx(1e10 * (1 + 15.39 * (1 - math.exp(-3 / 15.39))))
    assert effective_tokens(4e10, 1e10) > 0.9 * 4e10  # four epochs are nearly as good as new text
    assert effective_tokens(1e16, 1e10) == pytest.approx(16.39e10)


def test_shapes_ascend_with_the_proportions_of_published_models():
    sizes = [shape.parameters for shape in SHAPES]
    assert sizes == sorted(sizes)
    assert max(b / a for a, b in pairwise(sizes[8:])) < 1.4
    layers = {shape.shape.hidden_size: shape.shape.num_layers for shape in SHAPES}
    assert (layers[768], layers[4096], layers[8192]) == (12, 40, 66)
    assert all(shape.shape.hidden_size % shape.shape.num_heads == 0 for shape in SHAPES)


def test_budgets_that_buy_nothing_are_refused():
    with pytest.raises(CamelidError, match="no model fits into 1e-05 GB on each of 1 devices"):
        plan_run(loss, Limits(1e20, device_bytes=1e4), SHAPES)
    with pytest.raises(CamelidError, match=r"1e\+15 FLOPs do not pay for 1e\+12 tokens of inference"):
        plan_run(loss, Limits(1e15, inference_tokens=1e12), SHAPES)


def plan(capsys, *words) -> tuple[int, str, str]:
    code = main(["scale", "plan", *map(str, words)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_gpu_hours_give_a_recipe_that_loads_and_costs_what_was_asked(tmp_path, capsys):
    out = tmp_path / "plan"
    words = ["--gpu-hours", 1000, "--gpu", "A100", "--devices", 8, "--mfu", 0.5, "--price", 2]
    code, text, _ = plan(capsys, *words, "--out", out)
    assert code == 0
    written = json.loads((out / "plan.json").read_text())
    assert written["training_flops"] == pytest.approx(1000 * 3600 * 312e12 * 0.5)
    assert "money" in text
    assert "2,000.00 at 2 an hour" in text
    assert "125h" in text  # 1,000 hours on 8 GPUs
    assert text.endswith(f"torchrun --nproc-per-node 8 -m camelid pretrain {out / 'recipe.yaml'}\n")
    recipe = load_recipe(PretrainRecipe, out / "recipe.yaml")
    assert recipe.training.optimizer == "adamw"
    assert recipe.training.total_steps * recipe.training.global_batch_tokens == pytest.approx(
        written["tokens"], rel=0.01
    )
    assert recipe.model.spec(32_000).parameter_count() == written["parameters"]
    assert not (out / "prediction.json").exists()  # a published law holds for its own data
    assert "Other sizes for the same budget" in (out / "report.html").read_text()


def test_memory_is_that_of_the_recipe(tmp_path, capsys):
    """With a limit, one row at a time and blocks again; else as many as fill a GPU and nothing again."""
    words = ["--flops", 1e21, "--devices", 2]
    for name, more in (("limited", ["--memory", "40GB"]), ("free", [])):
        assert plan(capsys, *words, *more, "--out", tmp_path / name)[0] == 0
    limited, free = (json.loads((tmp_path / name / "plan.json").read_text()) for name in ("limited", "free"))
    [shape] = [each for each in SHAPES if each.parameters == limited["parameters"]]
    assert limited["facts"]["memory per device"] == in_bytes(memory(shape, 2))
    assert memory(shape, 2) <= 40e9
    larger = next(each for each in SHAPES if each.parameters > shape.parameters)
    assert memory(larger, 2) > 40e9
    [shape] = [each for each in SHAPES if each.parameters == free["parameters"]]
    training = load_recipe(PretrainRecipe, tmp_path / "free" / "recipe.yaml").training
    assert training.recompute_activations is False
    rows = training.global_batch_tokens // 2048
    at_once = max(count for count in range(1, 9) if rows // 2 % count == 0)
    needed = shape.device_bytes(2, rows, at_once, "none")
    assert free["facts"]["memory per device"] == in_bytes(needed)
    assert needed > shape.device_bytes(2, rows, at_once) > memory(shape, 2)


def test_a_law_of_ones_own_gives_a_prediction_with_an_interval(tmp_path, capsys):
    rows = [
        f"{n},{d},{loss(n, d) * (1 + 0.002 * (-1) ** k)}"
        for k, (n, d) in enumerate((n, d) for n in (1e5, 1e6, 1e7, 1e8) for d in (1e7, 1e8, 1e9))
    ]
    table = tmp_path / "runs.csv"
    table.write_text("\n".join(["parameters,tokens,loss", *rows]) + "\n")
    assert main(["scale", "fit", str(table), "--resamples", "30", "--out", str(tmp_path / "fit")]) == 0
    out = tmp_path / "plan"
    words = ["--law", tmp_path / "fit", "--flops", 1e17, "--vocab-size", 512, "--context-length", 256]
    code, _, _ = plan(capsys, *words, "--out", out)
    assert code == 0
    prediction = Prediction.read(out / "prediction.json")
    assert prediction.low <= prediction.loss < prediction.high
    assert prediction.loss == pytest.approx(loss(prediction.parameters, prediction.tokens), rel=0.02)
    assert prediction.hit(loss(prediction.parameters, prediction.tokens))
    recipe = load_recipe(PretrainRecipe, out / "recipe.yaml")
    assert recipe.prediction == out / "prediction.json"
    code, _, errors = plan(capsys, "--law", out, "--flops", 1e17, "--out", tmp_path / "none")
    assert code == 2
    assert "no fit.json there" in errors


def test_wrong_budgets_are_refused(tmp_path, capsys):
    out = ["--out", tmp_path / "plan"]
    code, _, errors = plan(capsys, *out)
    assert code == 2
    assert "no budget given; give exactly one" in errors
    assert plan(capsys, *out, "--flops", 1e20, "--minutes", 3)[0] == 2
    for several in (("--devices", 2), ("--price", 1)):
        assert "those of one process on this machine" in plan(capsys, *out, "--minutes", 3, *several)[2]
    assert plan(capsys, *out, "--flops", -1)[0] == 2
    assert plan(capsys, *out, "--flops", 1e20, "--memory", "much")[0] == 2
    assert not (tmp_path / "plan").exists()


def test_minutes_are_measured_on_this_machine(tmp_path, capsys, monkeypatch):
    measured = []

    def speed(spec, *_, optimizer, **__):
        measured.append((spec, optimizer))
        return 1000.0 / len(measured)

    monkeypatch.setattr("camelid.workflows.plan.training_speed", speed)
    words = ["--minutes", 60, "--vocab-size", 512, "--context-length", 128]
    code, text, _ = plan(capsys, *words, "--out", tmp_path / "plan")
    assert code == 0
    written = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert [optimizer for _, optimizer in measured] == [
        "adamw",
        "muon",
    ]
    flops = measured[1][0].training_flops_per_token(128)
    assert written["training_flops"] == pytest.approx(3600 * 500 * flops)
    assert "1h00m on this machine" in text
    assert load_recipe(PretrainRecipe, tmp_path / "plan" / "recipe.yaml").training.optimizer == "muon"
