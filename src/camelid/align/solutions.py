"""Solutions of a task's questions, sampled from a model and labelled by their final answers."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from camelid.base.errors import CamelidError
from camelid.engine.engine import Engine
from camelid.engine.fan_out import open_on
from camelid.engine.open_lm import model_identity
from camelid.evals.evaluate import Evaluation, evaluate
from camelid.evals.methods import Method
from camelid.evals.stage import load_tasks
from camelid.lm.interface import Prompt
from camelid.prompting.attempt import Program
from camelid.recipes.align import AlignRecipe
from camelid.tasks.item import Item
from camelid.tasks.task import Task


@dataclass(frozen=True)
class Solution:
    """A solution of a question: the prompt, what followed it, whether its final answer is right, and whether
    it was cut at the length limit."""

    prompt: Prompt
    text: str
    right: bool
    cut: bool = False


@dataclass(frozen=True)
class Solved:
    """A question with the solutions sampled for it, and its worked steps as the model should write them."""

    id: str
    prompt: Prompt
    solutions: tuple[Solution, ...]
    reference: str
    """Empty if the question has no worked steps."""


def solve(recipe: AlignRecipe) -> list[Solved]:
    """Samples `recipe.samples` solutions of every question, and labels each as its task grades it.

    The solutions are the lines of an evaluation in `recipe.solutions_folder`: a question that has a line
    there is not asked again. Empty replies are left out: there is nothing to rate. Raises `CamelidError` if
    no solution is right or none is wrong.
    """
    tasks = load_tasks(recipe.task, recipe.data, recipe.limit)
    solved = [
        replace(each, solutions=tuple(one for one in each.solutions if one.text.strip()))
        for of_task in sample_solutions(recipe, recipe.model, tasks, recipe.solutions_folder)
        for each in of_task
    ]
    right = [solution.right for each in solved for solution in each.solutions]
    if len(set(right)) < 2:
        raise CamelidError(
            f"{'all' if right and right[0] else 'none'} of the {len(right)} sampled solutions are right, so "
            "there is nothing to tell apart; take other questions, a model that solves some of them, or a "
            "higher --temperature"
        )
    return solved


def sample_solutions(
    recipe: AlignRecipe, model: str, tasks: Sequence[Task], folder: Path
) -> list[list[Solved]]:
    """The labelled solutions of each task's questions, `recipe.samples` each; see `solve`."""
    programs = [method_of(recipe).program_for(task) for task in tasks]
    lm = open_on(model, recipe.engine, on=recipe.on)
    identity, show = model_identity(model, recipe.engine), sys.stderr.isatty()
    try:
        return [
            [
                *labelled(
                    task,
                    program,
                    evaluate(task, program, lm, folder, model=identity, allow_cut=True, show=show),
                )
            ]
            for task, program in zip(tasks, programs, strict=True)
        ]
    finally:
        if isinstance(lm, Engine):
            lm.close()


def method_of(recipe: AlignRecipe) -> Method:
    """How questions are asked for solutions."""
    return Method(
        program=recipe.program,
        chat=recipe.chat,
        shots=recipe.shots,
        exemplars=recipe.exemplars,
        max_new_tokens=recipe.max_new_tokens,
        samples=recipe.samples,
        temperature=recipe.temperature,
        calculator=recipe.calculator,
    )


def labelled(task: Task, program: Program, sampled: Evaluation) -> Iterator[Solved]:
    """The sampled solutions with their labels, by the reading that evaluations are compared by."""
    items, metric = {item.id: item for item in task.items}, sampled.main_metric
    for record in sampled.records:
        item = items[record.id]
        found = tuple(
            Solution(*sample.solution, right=task.grade(item, sample.text)[metric].correct, cut=sample.cut)
            for sample in record.attempt.samples
        )
        prompt = record.attempt.samples[0].solution[0]
        yield Solved(record.id, prompt, found, _reference(item, program))


def _reference(item: Item, program: Program) -> str:
    """The worked steps and the answer as the program's exemplars show them."""
    if not item.rationale:
        return ""
    wording = program.settings["wording"]
    reply = str(wording["reasoned"]).format(rationale=item.rationale, answer=item.answer)
    return reply if program.settings["chat"] else str(wording["answer"]).format(answer=reply)
