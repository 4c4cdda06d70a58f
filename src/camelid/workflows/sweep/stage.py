"""`camelid scale sweep`: a ladder of models, a law fitted to it, and a larger model predicted beforehand."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from camelid.base.atomic import atomic_folder
from camelid.base.digest import digest_file, digest_paths
from camelid.base.json import read_table, write_json
from camelid.base.progress import in_time
from camelid.recipes.data import TextData
from camelid.recipes.sweep import SweepRecipe
from camelid.recipes.tokenizer import TokenizerRecipe
from camelid.report.page import write_report
from camelid.runs.prediction import PREDICTION, Prediction
from camelid.runs.provenance import Parent
from camelid.runs.run import Run
from camelid.scaling.alike import repeats
from camelid.scaling.fit import save_fit
from camelid.scaling.fitting import Fit, fit_points
from camelid.scaling.ladder import (
    Rung,
    check_ladder,
    design_ladder,
    fit_ladder_to_time,
    ladder_seconds,
    ladder_shape,
)
from camelid.scaling.points import Points
from camelid.scaling.rates import transferred_rate
from camelid.scaling.reading import run_point
from camelid.scaling.saved import FITTED, load_fit, predict_run
from camelid.text.tokenizer import load_tokenizer
from camelid.train.speed import training_speed
from camelid.train.stages import learn_tokenizer
from camelid.workflows.quickstart.world_files import write_text
from camelid.workflows.sweep.coordinates import coordinate_check
from camelid.workflows.sweep.page import sweep_report
from camelid.workflows.sweep.rungs import RUNGS, rung_recipe, threads_each, train_rungs

logger = logging.getLogger(__name__)

PLAN, CHECK = "ladder.json", "coordinates.json"
CONSTANT_SECONDS = 60.0
"""For data, tokenizer, measuring and fitting, however long the rungs are."""
TRAINING_SHARE = 0.85
"""Of the rest, for the rungs: two at a time are slower than measured one at a time."""
SMALL_VOCABULARY, BYTES_PER_TOKEN = 512, (3.0, 4.5)
"""Of the world's text, up to this vocabulary and above it, rounded up so that no token is repeated: with a
tokenizer learned on it, 512 entries give 2.2 and 2,048 give 3.5; more than about 3,100 are not found."""
SPEED_SECONDS = 0.7


def scale_sweep(recipe: SweepRecipe) -> Path:
    """Runs the sweep, or goes on with it, and returns its report.

    In OUT: ladder.json with the rungs, decided once; rungs/ with their runs; fit/ with the law of the fitted
    ones; rungs/NAME/prediction.json, written before the held-out rung is trained.
    """
    parents = [] if recipe.tokenizer is None else [Parent.of(recipe.tokenizer)]
    data = digest_paths([*recipe.text, *recipe.validation])
    with Run.create(recipe.out, recipe, parents=parents, data=data) as run:
        rungs = _ladder(recipe, run)
        check = _check(recipe)
        text, tokenizer = _text(recipe, rungs), recipe.tokenizer or recipe.out / "tokenizer"
        if not tokenizer.exists():
            sample = TokenizerRecipe(
                out=tokenizer, data=text, vocab_size=recipe.vocab_size, sample_bytes=2_000_000
            )
            learn_tokenizer(sample)
        fitted = [rung_recipe(recipe, rung, text, tokenizer) for rung in rungs if not rung.held_out]
        train_rungs(fitted, recipe.parallel, recipe.out / RUNGS)
        points = [run_point(each.out) for each in fitted]
        # All rungs read one text, the held-out one too.
        repeated = repeats((fitted[0].out, rung.tokens) for rung in rungs)
        fit = _fit(recipe, points, tuple(repeated))
        [held] = [rung for rung in rungs if rung.held_out]
        prediction = _predict(recipe, held, load_tokenizer(tokenizer).vocab_size)
        last = rung_recipe(recipe, held, text, tokenizer, prediction)
        train_rungs([last], 1, recipe.out / RUNGS)
        page = write_report(
            sweep_report(recipe.out, fit, [each.out for each in fitted], last.out, check), recipe.out
        )
    found, loss = Prediction.read(prediction), run_point(last.out).loss
    logger.info(found.verdict(loss))
    print(f"{found.verdict(loss)}\nReport: {page}")
    return page


def _ladder(recipe: SweepRecipe, run: Run) -> list[Rung]:
    """The rungs: decided once, from the time and the speed of each width on this machine."""
    path = recipe.out / PLAN
    if not path.exists():
        vocabulary = _vocabulary(recipe)
        sizes = {
            "vocab_size": vocabulary,
            "context": recipe.context_length,
            "batch_tokens": recipe.batch_tokens,
        }
        widths, held = recipe.widths, recipe.held_out_width
        if recipe.tokens_per_parameter is None:
            with threads_each(recipe.parallel):
                speeds = {width: _speed(recipe, width, vocabulary) for width in widths}
            speeds[held] = _speed(recipe, held, vocabulary)
            seconds = TRAINING_SHARE * max(0.0, 60 * recipe.minutes - CONSTANT_SECONDS)
            rungs = fit_ladder_to_time(seconds, speeds, widths, held, recipe.parallel, **sizes)
            logger.info(f"about {in_time(ladder_seconds(rungs, speeds, recipe.parallel))} of training")
        else:
            rungs = design_ladder(widths, held, recipe.tokens_per_parameter, **sizes)
        check_ladder(rungs)
        write_json(path, {"rungs": [rung.as_json() for rung in rungs]})
        run.log({"step": 0, "rungs": len(rungs)})
    rungs = [Rung.of(table) for table in read_table(path)["rungs"]]
    logger.info(", ".join(f"{rung.name}: {rung.tokens:,} tokens" for rung in rungs))
    return rungs


def _vocabulary(recipe: SweepRecipe) -> int:
    return recipe.vocab_size if recipe.tokenizer is None else load_tokenizer(recipe.tokenizer).vocab_size


def _speed(recipe: SweepRecipe, width: int, vocabulary: int) -> float:
    """Tokens per second of the model of a width on this machine."""
    return training_speed(
        ladder_shape(width, recipe.context_length).spec(vocabulary),
        recipe.context_length,
        recipe.batch_tokens // recipe.context_length,
        compiled=False,
        optimizer=recipe.optimizer,
        dtype=getattr(torch, recipe.dtype),
        seconds=SPEED_SECONDS,
    )


def _check(recipe: SweepRecipe) -> dict[str, Any]:
    """The coordinate check of the rule for the learning rate, once."""
    path = recipe.out / CHECK
    if not path.exists():

        def rate(width: int) -> float:
            return transferred_rate(recipe.learning_rate, recipe.base_width, width)

        found = coordinate_check(recipe.widths, rate, recipe.optimizer, recipe.seed)
        moved = {str(width): value for width, value in found.moved.items()}
        write_json(path, {"moved": moved, "slope": found.slope, "passed": found.passed})
        if not found.passed:
            logger.warning(
                f"the rate does not transfer: states move as width^{found.slope:.2f}; the widest models may "
                "be trained at a poor rate"
            )
    return read_table(path)


def _text(recipe: SweepRecipe, rungs: list[Rung]) -> TextData:
    """The user's files, or the world's, with as much text as the longest rung reads."""
    if recipe.text:
        return TextData(train=recipe.text, validation=recipe.validation)
    folder = recipe.out / "data"
    if not folder.exists():
        with atomic_folder(folder) as draft:
            each = BYTES_PER_TOKEN[_vocabulary(recipe) > SMALL_VOCABULARY]
            write_text(draft, int(each * max(rung.tokens for rung in rungs)), recipe.seed)
    return TextData(train=(folder / "text.jsonl",), validation=(folder / "text-validation.jsonl",))


def _fit(recipe: SweepRecipe, rows: list[Any], repeated: tuple[str, ...]) -> Fit:
    if (recipe.out / FITTED).exists():
        return load_fit(recipe.out / FITTED)
    n, d, c, loss, names = zip(*rows, strict=True)
    points = Points.of(n, d, loss, flops=c, names=[Path(name).name for name in names])
    fit = fit_points("chinchilla", points, seed=recipe.seed)
    fit = replace(fit, warnings=(*repeated, *fit.warnings))
    for warning in fit.warnings:
        logger.warning(warning)
    save_fit(fit, digests_of(recipe.out, points.names), recipe.out / FITTED)
    return fit


def digests_of(out: Path, names: tuple[str, ...]) -> Mapping[str, str]:
    """The digest of the metrics of each run."""
    return {name: digest_file(out / RUNGS / name / "metrics.jsonl") for name in names}


def _predict(recipe: SweepRecipe, rung: Rung, vocabulary: int) -> Path:
    """The prediction of the held-out rung, written once, before it is trained.

    vocabulary: that of the tokenizer, which may have fewer entries than the ladder was planned with.
    """
    path = recipe.out / f"{rung.name}-{PREDICTION}"
    if not path.exists():
        spec = rung.shape.spec(vocabulary)
        flops = rung.tokens * spec.training_flops_per_token(recipe.context_length)
        law, size = recipe.out / FITTED, float(spec.parameter_count())
        predict_run(law, size, rung.tokens, flops, seed=recipe.seed).write(path)
    return path
