"""`camelid align --method best-of-n`: rounds of sampling, keeping the best answers, and tuning on them.

round-1/solutions/   the sampled answers, a line for each question; what stands there is not asked again
round-1/rows.jsonl   the best ones, which were tuned on
round-1/tune/        the run of the tuning; its model samples in the next round
after/               the last model's answers to held-out questions
rounds.json          rewards and kept answers of each round
report.html          the same to read
model/               the model of the last round
"""

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from camelid.align.best_of_n import Rated, best_answers, kl_bound, summary, worth_tuning_on
from camelid.align.best_of_n_report import ROUNDS, best_of_n_report
from camelid.align.rewarding import digest_of_reward
from camelid.align.solutions import Solution, sample_solutions
from camelid.base.atomic import atomic_folder, write_text_atomically
from camelid.base.digest import digest_paths
from camelid.base.errors import CamelidError, WrongCall
from camelid.base.json import json_line, write_json
from camelid.data.rows.holdout import uniform
from camelid.evals.rewards import Reward, open_reward
from camelid.evals.stage import load_tasks
from camelid.formats.hub import resolve
from camelid.lm.interface import Prompt
from camelid.recipes.align import AlignRecipe
from camelid.recipes.data import MixedData
from camelid.recipes.tune import TuneRecipe
from camelid.report.page import write_report
from camelid.runs.null_run import shared_run
from camelid.runs.provenance import Parent
from camelid.tasks.item import Item
from camelid.tasks.reward_function import Sample
from camelid.tasks.task import Task
from camelid.text.conversation import Conversation
from camelid.train.parallel import ProcessGroup
from camelid.train.stages import MODEL, tune

logger = logging.getLogger(__name__)

RIGHT = 1.0
"""The least reward of an answer that is kept if a task's grader gives it."""


def train_best_of_n(recipe: AlignRecipe, group: ProcessGroup) -> Path:
    """Samples, keeps the best answers and tunes on them, in rounds; returns the folder of the last model.

    Every part goes on where a stopped call left it.
    """
    if recipe.lora.rank is not None:
        raise WrongCall("best-of-n tunes all weights so far: leave out --lora.rank")
    if not recipe.chat:
        raise WrongCall("best-of-n tunes on conversations: give --chat")
    tasks = load_tasks(recipe.task, recipe.data, recipe.limit)
    reward = None if recipe.rewarded_by is None else open_reward(recipe.rewarded_by, device=str(group.device))
    data = {**digest_paths(recipe.data), **{task.name: task.version for task in tasks}}
    if recipe.rewarded_by is not None:
        data[recipe.rewarded_by] = digest_of_reward(recipe.rewarded_by)
    if all(_is_held_out(recipe, item) for task in tasks for item in task.items):
        raise WrongCall("all questions are held out: lower --held-out, or give more")
    model, rounds = recipe.model, list[dict[str, Any]]()
    parents = [Parent.of(resolve(recipe.model))]
    with shared_run(recipe, group.is_main, parents=parents, data=data):
        logger.info(f"best of {recipe.samples}: at most {kl_bound(recipe.samples):.2f} nats from the model")
        for number in range(1, recipe.best_of_n.rounds + 1):
            folder = recipe.out / f"round-{number}"
            rated = partial(_rated, recipe, model, tasks, reward, folder / "solutions")
            trained, held_out = group.from_main(rated)
            best = _best(recipe, trained)
            rounds.append({"kept": len(best), **_measures(trained, held_out)})
            _write(recipe, rounds, group)
            logger.info(f"round {number}: {_in_words(rounds[-1])}")
            model = str(_tuned(recipe, model, best, folder, group))
        if held_out:
            kept = [_held_out(recipe, task) for task in tasks]
            _, after = group.from_main(partial(_rated, recipe, model, kept, reward, recipe.out / "after"))
            rounds.append(_measures([], after))
            _write(recipe, rounds, group)
            logger.info(f"after the last round: {_in_words(rounds[-1])}")
        if group.is_main and not (recipe.out / MODEL).exists():
            with atomic_folder(recipe.out / MODEL) as draft:
                shutil.copytree(model, draft, dirs_exist_ok=True)
        if group.is_main:
            write_report(best_of_n_report(recipe.out), recipe.out)
    return recipe.out / MODEL


def _rated(
    recipe: AlignRecipe, model: str, tasks: Sequence[Task], reward: Reward | None, folder: Path
) -> tuple[list[Rated], list[Rated]]:
    """The model's answers to training and to held-out questions, with the task's grades or their rewards."""
    tasks = [task for task in tasks if task.items]
    trained, held_out = list[Rated](), list[Rated]()
    for task, solved in zip(tasks, sample_solutions(recipe, model, tasks, folder), strict=True):
        items = {item.id: item for item in task.items}
        for each in solved:
            item = items[each.id]
            if reward is None:
                rewards = [float(one.right) for one in each.solutions]
            else:
                rewards = reward.score(
                    [Sample(one.prompt, one.text.strip(), item.columns) for one in each.solutions]
                )
            part = held_out if _is_held_out(recipe, item) else trained
            part.append(Rated(each.solutions, tuple(rewards)))
    return trained, held_out


def _best(recipe: AlignRecipe, rated: Sequence[Rated]) -> list[Solution]:
    rated = [worth_tuning_on(each, allow_cut=recipe.best_of_n.allow_cut) for each in rated]
    most = max((len(each.answers) for each in rated), default=0)
    by_grader = recipe.rewarded_by is None
    if most == 0 or (most == 1 and not by_grader):
        few = "no answer" if most == 0 else "at most one answer to each"
        raise CamelidError(
            f"of {len(rated)} questions {few} is neither empty nor cut at the length limit; raise "
            "--max-new-tokens, tune the model on answers that end, or give --best-of-n.allow-cut"
        )
    if not by_grader and all(len({*each.rewards}) < 2 for each in rated):
        several = sum(len(each.rewards) > 1 for each in rated)
        raise CamelidError(
            f"{recipe.rewarded_by} gives all answers to a question the same reward, for each of {several} "
            "questions, so none is better than another; see camelid check --reward, or take more --samples"
        )
    least = RIGHT if by_grader else -math.inf
    best = [one for each in rated for one in best_answers(each, recipe.best_of_n.keep, least)]
    if not best:
        raise CamelidError(
            f"none of the answers to {len(rated)} questions is right, so there is nothing to tune on; take "
            "easier questions, more --samples, or a model that solves some of them"
        )
    return best


def _write(recipe: AlignRecipe, rounds: Sequence[Mapping[str, Any]], group: ProcessGroup) -> None:
    if group.is_main:
        write_json(recipe.out / ROUNDS, rounds)


def _tuned(
    recipe: AlignRecipe, model: str, best: Sequence[Solution], folder: Path, group: ProcessGroup
) -> Path:
    """The folder of the model tuned on the best answers."""
    rows = folder / "rows.jsonl"
    if group.is_main:
        write_text_atomically(rows, "".join(json_line(_row(one.prompt, one.text)) for one in best))
    group.barrier()
    return tune(
        TuneRecipe(
            model=recipe.model if recipe.best_of_n.from_base else model,
            data=MixedData(train=(rows,), validation_fraction=0.0),
            too_long=recipe.too_long,
            training=recipe.training,
            parallel=recipe.parallel,
            seed=recipe.seed,
            out=folder / "tune",
        )
    )


def _is_held_out(recipe: AlignRecipe, item: Item) -> bool:
    return uniform(item.asked) < recipe.held_out


def _held_out(recipe: AlignRecipe, task: Task) -> Task:
    return replace(task, items=tuple(each for each in task.items if _is_held_out(recipe, each)))


def _measures(trained: Sequence[Rated], held_out: Sequence[Rated]) -> dict[str, float]:
    return {**summary(trained), **{f"held_out_{name}": value for name, value in summary(held_out).items()}}


def _in_words(measures: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:,.4g}" for name, value in measures.items())


def _row(prompt: Prompt, text: str) -> dict[str, Any]:
    assert isinstance(prompt, Conversation)  # --chat asks in conversations
    shown = [
        {**each, "weight": 0} if each["role"] == "assistant" else each  # exemplars are not trained
        for each in prompt.as_dicts()
    ]
    return {"messages": [*shown, {"role": "assistant", "content": text.strip()}]}
