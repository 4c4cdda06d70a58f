"""`camelid eval`: accuracy on tasks, perplexity and bits per byte on text."""

import hashlib
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from camelid.base.digest import digest_path
from camelid.base.errors import WrongCall
from camelid.data.read.corpus import Corpus
from camelid.engine.conventions import described
from camelid.engine.fan_out import open_on
from camelid.engine.open_lm import model_identity
from camelid.evals.evaluate import Evaluation, evaluate, log_warnings
from camelid.evals.methods import Method
from camelid.evals.results import Result, print_table, write_results
from camelid.evals.verifier import open_verifier
from camelid.lm.interface import LM
from camelid.recipes.evaluate import Convention, EvaluateRecipe
from camelid.tasks.task import Task, load_task, takes_data, tasks_with_data

if TYPE_CHECKING:
    from camelid.engine.engine import Engine

logger = logging.getLogger(__name__)


def evaluate_recipe(
    recipe: EvaluateRecipe, then: Callable[[Task, Evaluation], object] | None = None
) -> list[Result]:
    """Evaluates the tasks and texts of a recipe; writes results.json and prints the table.

    then: is called with each task and its evaluation at the end. Raises `WrongCall` if there is nothing to
    measure or settings contradict each other.
    """
    if not recipe.task and not recipe.text:
        raise WrongCall("nothing to measure: give --task NAME|FILE, or --text FILE")
    tasks = load_tasks(recipe.task, recipe.data, recipe.limit)
    method = method_of(recipe)
    programs = [method.program_for(each) for each in tasks]
    lm = open_on(recipe.model, recipe.engine, recipe.server, recipe.on)
    engine = _reads_texts(lm) if recipe.text else None
    identity = lm.identity or model_identity(recipe.model, recipe.engine)
    evaluations = [
        evaluate(
            each, how, lm, recipe.out, model=identity, allow_cut=recipe.allow_cut, show=sys.stderr.isatty()
        )
        for each, how in zip(tasks, programs, strict=True)
    ]
    results = [result for evaluation in evaluations for result in evaluation.results]
    results += [
        result
        for path in recipe.text
        if engine is not None
        for result in _text_results(engine, path, identity, recipe.perplexity)
    ]
    write_results(recipe.out / "results.json", results)
    print_table(results)
    for task, evaluation in zip(tasks, evaluations, strict=True):
        log_warnings([evaluation])
        if then is not None:
            then(task, evaluation)
    return results


def method_of(recipe: EvaluateRecipe) -> Method:
    """The method that a recipe names, with the verifier that it names opened."""
    if recipe.verifier is None:
        return Method.of(recipe)
    name = model_identity(recipe.verifier)
    return replace(Method.of(recipe), verifier=open_verifier(recipe.verifier, name, recipe.engine.device))


def load_tasks(names: Sequence[str], data: Sequence[Path], limit: int | None) -> list[Task]:
    """The tasks with these names; each published task takes the next data file."""
    known = tasks_with_data()
    published = [takes_data(name) for name in names]
    if sum(published) != len(data):
        raise WrongCall(
            f"--data is given {len(data)} times for {sum(published)} published tasks ({', '.join(known)}); "
            "each takes one file, in the order of the tasks"
        )
    files = iter(data)
    return [
        load_task(name, limit=limit, data=next(files) if has_data else None)
        for name, has_data in zip(names, published, strict=True)
    ]


def _reads_texts(lm: LM) -> "Engine":
    """The model that can measure texts; raises `WrongCall` for others, before anything is asked."""
    from camelid.engine.engine import Engine

    if not isinstance(lm, Engine):
        raise WrongCall(
            "--text needs a model folder, and no --on: servers and clusters do not return the probability of "
            "a whole text"
        )
    return lm


def _text_results(engine: "Engine", path: Path, identity: str, convention: Convention) -> list[Result]:
    """Perplexity and bits per byte on a text, as rows of the table; `n` is the number of tokens."""
    from camelid.engine.perplexity import perplexity

    measured = perplexity(engine, (document for document, _ in Corpus(path)), convention)
    digest = digest_path(path)
    row = Result(
        task=path.name,
        version=f"sha256:{digest[:8]}",
        program=f"{convention}@1",
        shots=0,
        metric="perplexity",
        value=measured.perplexity,
        interval=None,
        n=measured.tokens,
        model=identity,
        evaluation=hashlib.sha256(f"{path.name} {digest} {identity} {convention}".encode()).hexdigest()[:16],
        settings={"windows": described(convention, engine.context_length)},
    )
    return [row, replace(row, metric="bits_per_byte", value=measured.bits_per_byte)]
