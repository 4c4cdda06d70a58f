"""`camelid align --method grpo`: a policy that learns from the grades of its own answers."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from camelid.align.grpo import Meter, grpo
from camelid.align.rollouts import Asked, Rollouts, asked_by
from camelid.align.solutions import method_of
from camelid.base.atomic import atomic_folder
from camelid.base.digest import digest_paths
from camelid.base.errors import WrongCall
from camelid.data.rows.holdout import uniform
from camelid.engine.engine import Engine
from camelid.evals.stage import load_tasks
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.formats.load import check_tokenizer_fits, load_model, special_ids
from camelid.recipes.align import AlignRecipe
from camelid.report.page import write_report
from camelid.report.training import training_report
from camelid.runs.provenance import Parent
from camelid.runs.run import Run
from camelid.text.tokenizer import load_tokenizer
from camelid.train.fit import Setup, fit, precision
from camelid.train.parallel import ProcessGroup
from camelid.train.stages import MODEL

logger = logging.getLogger(__name__)

MEASURED = 64
"""Held-out questions at most that are answered at each validation."""
ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class Right:
    """The share of held-out questions that the policy answers rightly, greedily."""

    measures: dict[str, float]


def train_grpo(recipe: AlignRecipe, group: ProcessGroup) -> Path:
    """Trains the model by the grades of its own answers; returns the folder of the result."""
    if recipe.lora.rank is not None:
        raise WrongCall("GRPO trains all weights so far: leave out --lora.rank")
    if recipe.training.epochs is not None:
        raise WrongCall("rollouts have no epochs: give --training.steps, the number of updates")
    base = resolve(recipe.model)
    tasks = load_tasks(recipe.task, recipe.data, recipe.limit)
    method = replace(method_of(recipe), samples=1, temperature=None)
    questions = [each for task in tasks for each in asked_by(method.program_for(task), task)]
    digests = {**digest_paths(recipe.data), **{task.name: task.version for task in tasks}}
    with Run.create(recipe.out, recipe, parents=[Parent.of(base)], data=digests) as run:
        if not (recipe.out / MODEL).exists():
            _train(recipe, run, base, questions, group)
        write_report(training_report(run.folder), run.folder)
    return recipe.out / MODEL


def _train(
    recipe: AlignRecipe, run: Run, base: Path, questions: Sequence[Asked], group: ProcessGroup
) -> None:
    model, tokenizer = load_model(base).to(group.device), load_tokenizer(base)
    check_tokenizer_fits(model.spec, tokenizer)
    dtype, meter = precision(run, recipe.training, group), Meter()
    trained = [each for each in questions if uniform(each.item.asked) >= recipe.held_out]
    held_out = [each for each in questions if uniform(each.item.asked) < recipe.held_out][:MEASURED]
    logger.info(f"{len(trained):,} questions, and {len(held_out)} held out to measure with")
    with Engine(model, tokenizer, dtype=dtype, max_batch=recipe.engine.max_batch) as engine:
        rollouts = Rollouts(engine, trained, recipe.grpo, recipe.seed)

        def measure() -> Right:
            engine.set_weights()
            return right(engine, held_out)

        fit(
            run,
            model,
            rollouts.batches_from,
            grpo(model, dtype, recipe.grpo, meter),
            recipe.training,
            Setup(group, dtype, recipe.training.micro_batch_size or ROWS_AT_ONCE),
            measure if held_out else None,
            recipe.seed,
            also=lambda: {**rollouts.stats, "sampler_difference": meter.read()},
        )
    with atomic_folder(recipe.out / MODEL) as draft:
        save_checkpoint(draft, model, special_ids=special_ids(tokenizer), provenance=run.identity)
        tokenizer.save(draft)


def right(engine: Engine, questions: Sequence[Asked]) -> Right:
    """How many questions are answered rightly, by greedy decoding."""
    rewards = []
    for sampling in dict.fromkeys(each.sampling for each in questions):
        asked = [each for each in questions if each.sampling == sampling]
        replies = engine.generate([each.prompt for each in asked], replace(sampling, temperature=0.0))
        rewards += [each.reward(reply.text) for each, [reply] in zip(asked, replies, strict=True)]
    return Right({"right": sum(rewards) / len(rewards)})
