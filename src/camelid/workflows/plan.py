"""`camelid scale plan`: the run that a budget pays for, its predicted loss, and its recipe."""

import logging
import math
import shlex
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from camelid.base.atomic import atomic_folder
from camelid.base.errors import CamelidError
from camelid.base.json import write_json
from camelid.base.memory import parse_size
from camelid.base.progress import in_bytes, in_time
from camelid.base.version import __version__
from camelid.recipes.data import TextData
from camelid.recipes.plan import PlanRecipe
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.recipe import save_recipe
from camelid.recipes.sweep import SweepRecipe
from camelid.recipes.training import OptimizerName, Training
from camelid.report.page import write_report
from camelid.report.values import Passage, Report, Section, Table
from camelid.runs.prediction import PREDICTION, Prediction
from camelid.scaling.plan import Candidate, Limits, Loss, RunPlan, candidates, plan_run
from camelid.scaling.rates import step_law, transferred_rate
from camelid.scaling.saved import REFITTED, load_fit, loss_by, predict_run
from camelid.scaling.stopping import earliest_stop
from camelid.text.tokenizer import load_tokenizer
from camelid.train.machine import KNOWN_PEAKS, rows_at_once
from camelid.train.speed import training_speed
from camelid.workflows.sweep.law import sweep_of, warn_of_other_losses
from camelid.workflows.sweep.rungs import FLOOR, SCHEDULE, WARMUP

logger = logging.getLogger(__name__)

STEP_LAW_FROM = 5e7
"""Parameters from which StepLaw's rates hold; below, the sweep's rule for Muon."""
SMALL_RATE, SMALL_WIDTH, SMALL_ROWS = 8e-3, 64, 8
REFERENCE_WIDTH, NODE = 256, 8
ALTERNATIVES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Sizes shown beside the best one, as multiples of its parameters."""


@dataclass(frozen=True)
class Machine:
    """What computes: useful FLOP/s of all devices, and their number and name."""

    flops_per_second: float
    devices: int
    name: str


def scale_plan(recipe: PlanRecipe) -> Path:
    """Writes the plan into the new folder `recipe.out` and prints it; returns the folder.

    plan.json, recipe.yaml for `camelid pretrain`, report.html, and with a law of your own prediction.json.
    """
    vocabulary = (
        recipe.vocab_size if recipe.tokenizer is None else load_tokenizer(recipe.tokenizer).vocab_size
    )
    fit = None if recipe.law is None else load_fit(recipe.law)
    machine, flops = _machine(recipe, vocabulary)
    limits = Limits(
        flops,
        recipe.inference_tokens,
        recipe.unique_tokens or math.inf,
        math.inf if recipe.memory is None else parse_size(recipe.memory),
        recipe.devices,
    )
    constants = REFITTED if fit is None else fit.constants
    loss = loss_by(constants)
    shapes = list(candidates(vocabulary, recipe.context_length))
    law = None if recipe.law is None else sweep_of(recipe.law)
    if law is not None:
        warn_of_other_losses(law, vocabulary, recipe.context_length)
    sweep = None if law is None else law.recipe
    rows = partial(_rows, recipe, sweep)
    plan = plan_run(loss, limits, shapes, rows)
    if recipe.minutes is not None:  # at the speed of the shape found: narrow ones reach fewer FLOP/s
        training = training_recipe(recipe, plan, sweep).training
        machine, flops = _here(recipe, plan.candidate, vocabulary, training)
        limits = replace(limits, flops=flops)
        plan = plan_run(loss, limits, shapes, rows)
    around = [_at(plan, multiple, loss, limits, shapes) for multiple in ALTERNATIVES]
    run = training_recipe(recipe, plan, sweep)
    memory = partial(_memory, recipe, sweep)
    prediction = None
    if recipe.law is not None:
        size, flops = float(plan.candidate.parameters), plan.training_flops
        prediction = predict_run(recipe.law, size, plan.tokens, flops, worth=plan.effective_tokens)
    facts = _facts(recipe, plan, machine, run, prediction) | {"memory per device": in_bytes(memory(plan))}
    with atomic_folder(recipe.out) as draft:
        save_recipe(run, draft / "recipe.yaml")
        if prediction is not None:
            prediction.write(draft / PREDICTION)
        write_json(draft / "plan.json", _as_json(plan, limits, constants, facts), measured=True)
        shown = [(each, memory(each)) for each in around if each is not None]
        write_report(_report(recipe, plan, facts, shown), draft / "report.html")
    for name, value in facts.items():
        print(f"{name:<22}{value}")
    print(f"\n{_command(recipe)}")
    return recipe.out


def training_recipe(recipe: PlanRecipe, plan: RunPlan, sweep: SweepRecipe | None = None) -> PretrainRecipe:
    """The recipe of the planned run: that of the law's sweep, which a law holds for; without one, StepLaw's
    AdamW for large models and Muon for small ones."""
    context, width = recipe.context_length, plan.candidate.shape.hidden_size
    optimizer: OptimizerName = "muon"
    rate, warmup = transferred_rate(SMALL_RATE, SMALL_WIDTH, width), 0.02
    if sweep is not None:
        optimizer, warmup = sweep.optimizer, WARMUP
        rate = transferred_rate(sweep.learning_rate, sweep.base_width, width)
    elif plan.candidate.parameters >= STEP_LAW_FROM:
        optimizer, (rate, _) = "adamw", _by_step_law(plan.candidate, plan.tokens)
    rows = _rows(recipe, sweep, plan.candidate, plan.tokens)
    steps = max(1, round(plan.tokens / (rows * context)))
    return PretrainRecipe(
        out=recipe.out / "run",
        data=TextData(train=recipe.train),
        tokenizer=recipe.tokenizer or Path("runs/tokenizer"),
        model=plan.candidate.shape,
        training=Training(
            steps=steps,
            global_batch_tokens=rows * context,
            context_length=context,
            optimizer=optimizer,
            learning_rate=float(f"{rate:.3g}"),
            schedule=SCHEDULE,
            min_learning_rate_ratio=FLOOR,
            warmup_fraction=warmup,
            # What `Limits.device_bytes` is for.
            recompute_activations=recipe.memory is not None,
            micro_batch_size=None if recipe.memory is None else 1,
            validate_every=max(1, steps // 10),
            checkpoint_every=max(1, min(steps, 500)),
        ),
        prediction=None if recipe.law is None else recipe.out / PREDICTION,
    )


def _rows(recipe: PlanRecipe, sweep: SweepRecipe | None, shape: Candidate, tokens: float) -> int:
    """Rows of an update of a shape that is trained on that many tokens; each device takes as many."""
    rows = float(SMALL_ROWS)
    if sweep is not None:
        rows = sweep.batch_tokens // recipe.context_length
    elif shape.parameters >= STEP_LAW_FROM:
        rows = max(1, round(_by_step_law(shape, tokens)[1] / recipe.context_length))
    return recipe.devices * max(1, round(rows / recipe.devices))


def _by_step_law(shape: Candidate, tokens: float) -> tuple[float, float]:
    """The learning rate, and the tokens of an update."""
    rate, batch = step_law(float(shape.shape.spec(1).parameter_count()), tokens)
    return float(rate), float(batch)


def _memory(recipe: PlanRecipe, sweep: SweepRecipe | None, plan: RunPlan) -> float:
    """The bytes of each device that the plan's recipe takes, with activations of 2 bytes."""
    rows = _rows(recipe, sweep, plan.candidate, plan.tokens)
    if recipe.memory is not None:
        return plan.candidate.device_bytes(recipe.devices, rows)
    device = torch.device("cpu" if recipe.minutes is not None else "cuda")
    own, width = rows // recipe.devices, plan.candidate.shape.hidden_size
    at_once = rows_at_once(own, recipe.context_length, width, torch.bfloat16, device)
    return plan.candidate.device_bytes(recipe.devices, rows, at_once, "none")


def _command(recipe: PlanRecipe) -> str:
    """What starts the planned run, on its devices; nodes are taken to have up to eight."""
    words = ["camelid"]
    if recipe.devices > 1:
        nodes = -(-recipe.devices // NODE)
        several = [f"--nnodes {nodes}"] if nodes > 1 else []
        words = ["torchrun", *several, f"--nproc-per-node {-(-recipe.devices // nodes)}", "-m camelid"]
    return " ".join([*words, "pretrain", shlex.quote(str(recipe.out / "recipe.yaml"))])


def _machine(recipe: PlanRecipe, vocabulary: int) -> tuple[Machine, float]:
    """What computes, and the budget in FLOPs; this machine's speed is at first that of a small model."""
    if recipe.minutes is None:
        speed = KNOWN_PEAKS[recipe.gpu] * recipe.mfu
        flops = recipe.flops or (recipe.gpu_hours or 0.0) * 3600 * speed
        return Machine(speed * recipe.devices, recipe.devices, f"{recipe.devices} x {recipe.gpu}"), flops
    heads = REFERENCE_WIDTH // 32
    reference = Candidate.of((REFERENCE_WIDTH, 4, heads), vocabulary, recipe.context_length)
    logger.info("measuring the speed of this machine")
    return _here(recipe, reference, vocabulary)


def _here(
    recipe: PlanRecipe, shape: Candidate, vocabulary: int, training: Training | None = None
) -> tuple[Machine, float]:
    """This machine by the speed of a shape, and the FLOPs of the recipe's minutes.

    training: the optimiser and the rows of an update; by default AdamW and two.
    """
    assert recipe.minutes is not None  # the caller has looked
    optimizer: OptimizerName = "adamw" if training is None else training.optimizer
    rows = 2 if training is None else training.global_batch_tokens // training.context_length
    spec = shape.shape.spec(vocabulary)
    tokens = training_speed(spec, recipe.context_length, rows, compiled=False, optimizer=optimizer)
    speed = tokens * shape.flops_per_token
    return Machine(speed, 1, "this machine"), 60 * recipe.minutes * speed


def _at(
    plan: RunPlan, multiple: float, loss: Loss, limits: Limits, shapes: list[Candidate]
) -> RunPlan | None:
    """The plan with about `multiple` of the best one's parameters, or None if no budget is left for it."""
    wanted = math.log(multiple * plan.candidate.parameters)
    nearest = min(shapes, key=lambda each: abs(math.log(each.parameters) - wanted))
    free = Limits(limits.flops, limits.inference_tokens, limits.unique_tokens)
    try:
        return plan_run(loss, free, [nearest])
    except CamelidError:  # this shape costs more in inference than the whole budget
        return None


def _facts(
    recipe: PlanRecipe, plan: RunPlan, machine: Machine, run: PretrainRecipe, prediction: Prediction | None
) -> dict[str, str]:
    """The plan in words, by name."""
    shape, training = plan.candidate.shape, run.training
    seconds = plan.training_flops / machine.flops_per_second
    hours = seconds / 3600 * machine.devices
    loss = f"{plan.loss:.4f} by Chinchilla's law refitted, for its own data and tokenizer"
    if prediction is not None:
        loss = (
            f"{prediction.loss:.4f} ({prediction.level:.0%}: {prediction.low:.4f} to {prediction.high:.4f})"
        )
    repeats = plan.tokens / recipe.unique_tokens if recipe.unique_tokens else 1.0
    facts = {
        "parameters": f"{plan.candidate.parameters:,}",
        "shape": f"width {shape.hidden_size}, {shape.num_layers} layers, {shape.num_heads} heads",
        "tokens": f"{plan.tokens:,.0f} ({plan.tokens / plan.candidate.parameters:.1f} per parameter)",
        "predicted loss": loss,
        "training FLOPs": f"{plan.training_flops:.3g}",
        "batch": f"{training.global_batch_tokens:,} tokens, {training.steps:,} steps",
        "learning rate": f"{training.learning_rate:g} ({training.optimizer}), warm-up, then {SCHEDULE} to "
        f"{100 * FLOOR:g} %",
        "time": f"{in_time(seconds)} on {machine.name}",
    }
    if recipe.inference_tokens:
        inference = recipe.inference_tokens * plan.candidate.flops_per_token / 3
        facts["inference FLOPs"] = f"{inference:.3g}"
    if repeats > 1:
        facts["epochs"] = f"{repeats:.1f}, worth {plan.effective_tokens:,.0f} tokens"
        blocks = plan.candidate.shape.spec(1).parameter_count()
        stop = earliest_stop(blocks, recipe.unique_tokens or plan.tokens, training.global_batch_tokens)
        facts["stop not before"] = f"{stop:,.0f} steps, by Kaplan's eq. 5.7 for its own text"
    if machine.name != "this machine":
        facts["GPU-hours"] = f"{hours:,.1f}"
        if recipe.price is not None:
            facts["money"] = f"{hours * recipe.price:,.2f} at {recipe.price:g} an hour"
    return facts


def _as_json(
    plan: RunPlan, limits: Limits, constants: dict[str, float], facts: dict[str, str]
) -> dict[str, object]:
    return {
        "shape": plan.candidate.shape.model_dump(),
        "parameters": plan.candidate.parameters,
        "tokens": plan.tokens,
        "effective_tokens": plan.effective_tokens,
        "loss": plan.loss,
        "training_flops": plan.training_flops,
        "limits": vars(limits),
        "constants": constants,
        "facts": facts,
        "camelid": __version__,
    }


def _report(
    recipe: PlanRecipe, plan: RunPlan, facts: dict[str, str], around: list[tuple[RunPlan, float]]
) -> Report:
    rows = tuple(
        (
            f"{each.candidate.parameters:,}",
            f"{each.tokens:,.0f}",
            f"{each.tokens / each.candidate.parameters:.1f}",
            round(each.loss, 4),
            in_bytes(memory),
        )
        for each, memory in around
    )
    columns = ("parameters", "tokens", "tokens per parameter", "loss", "memory per device")
    return Report(
        title="camelid scale plan",
        summary=f"A model of {plan.candidate.parameters:,} parameters for this budget.",
        facts={name: facts[name] for name in ("parameters", "tokens", "predicted loss", "time")},
        commands=(_command(recipe),),
        sections=(
            Section(
                "The plan", passages=(Passage("", "\n".join(f"{k}: {v}" for k, v in facts.items()), True),)
            ),
            Section("Other sizes for the same budget", tables=(Table("", columns, rows),)),
        ),
        footer=f"Written by camelid {__version__}.",
    )
