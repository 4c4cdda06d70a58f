"""`camelid eval`: accuracy on tasks, perplexity and bits per byte on text."""

import dataclasses
import hashlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from camelid.base.digest import digest_path
from camelid.base.errors import CamelidError, WrongCall
from camelid.data.read.corpus import Corpus
from camelid.engine.conventions import described
from camelid.engine.open_lm import hub_commit, open_lm
from camelid.evals.evaluate import evaluate
from camelid.evals.results import Result, print_table, write_results
from camelid.lm.interface import LM
from camelid.lm.sampling import Sampling
from camelid.prompting.asking import CONTINUATION, QUESTION_ANSWER, Draw
from camelid.prompting.attempt import Program
from camelid.prompting.programs import (
    ANSWER,
    STEPS,
    TRIGGERS,
    chain_of_thought,
    direct,
    few_shot,
    likelihood,
)
from camelid.recipes.engine import EngineSettings
from camelid.recipes.evaluate import Convention, EvaluateRecipe
from camelid.tasks.graders import numeric
from camelid.tasks.item import Item
from camelid.tasks.published import FORMATS, WITH_SETTING, Format
from camelid.tasks.task import Task, load_task

logger = logging.getLogger(__name__)


def evaluate_recipe(recipe: EvaluateRecipe) -> list[Result]:
    """Evaluates the tasks and texts of a recipe; writes results.json and prints the table.

    Raises `WrongCall` if there is nothing to measure or settings contradict each other.
    """
    if not recipe.task and not recipe.text:
        raise WrongCall("nothing to measure: give --task NAME|FILE, or --text FILE")
    tasks = _tasks(recipe.task, recipe.data, recipe.limit)
    programs = [
        make_program(
            each,
            recipe.program,
            recipe.chat,
            recipe.shots,
            recipe.exemplars,
            recipe.max_new_tokens,
            recipe.answer_context,
            recipe.seed,
        )
        for each in tasks
    ]
    lm = open_lm(recipe.model, recipe.engine, recipe.server)
    identity = lm.identity or model_identity(recipe.model, recipe.engine)
    evaluations = [
        evaluate(
            each, how, lm, recipe.out, model=identity, allow_cut=recipe.allow_cut, show=sys.stderr.isatty()
        )
        for each, how in zip(tasks, programs, strict=True)
    ]
    results = [result for evaluation in evaluations for result in evaluation.results]
    results += [
        result for path in recipe.text for result in _text_results(lm, path, identity, recipe.perplexity)
    ]
    write_results(recipe.out / "results.json", results)
    print_table(results)
    for warning in (warning for evaluation in evaluations for warning in evaluation.warnings):
        logger.warning(warning)
    return results


def make_program(
    task: Task,
    name: str | None = None,
    chat: bool = False,
    shots: int = 0,
    exemplars: Path | None = None,
    max_new_tokens: int | None = None,
    answer_context: bool = False,
    seed: int | None = None,
) -> Program:
    """The program with this name, or the task's default, with the task's wording.

    Raises `WrongCall` for settings that contradict each other.
    """
    if name is None:
        name = _default_program(task, shots)
    if task.format and seed is None:
        seed = 0
    draw = Draw(shots, seed) if seed is not None and shots else None
    shown = _exemplars(task, shots, exemplars, draw)
    if (name == "few_shot") != bool(shown) and name in ("direct", "few_shot"):
        raise WrongCall(
            "--program few_shot needs --shots K" if not shown else "--shots needs --program few_shot"
        )
    if answer_context and name != "likelihood":
        raise WrongCall("--answer-context needs --program likelihood")
    if task.format:
        return _published(task, task.format, name, chat, shown, draw, max_new_tokens, answer_context)
    wording = CONTINUATION if task.continuation else QUESTION_ANSWER
    if name == "likelihood":
        return likelihood(shown, chat=chat, wording=wording, answer_context=answer_context, draw=draw)
    usual = STEPS if name == "chain_of_thought" else ANSWER
    sampling = Sampling(max_new_tokens=max_new_tokens or usual.max_new_tokens)
    if name == "chain_of_thought":
        if draw:
            raise WrongCall(
                "--seed draws exemplars for few_shot and likelihood; leave it out with chain_of_thought"
            )
        trigger = TRIGGERS["number"] if task.grader is numeric else None
        return chain_of_thought(shown, chat=chat, sampling=sampling, wording=wording, trigger=trigger)
    if name == "few_shot":
        return few_shot(shown, chat=chat, sampling=sampling, wording=wording, draw=draw)
    return direct(chat=chat, sampling=sampling, wording=wording)


def model_identity(model: str, engine: EngineSettings | None = None) -> str:
    """Identifies a model that runs here: the digest of its folder or its name and commit, and engine settings
    that change answers. A server's model is identified by `LM.identity`."""
    folder, engine = Path(model), engine or EngineSettings()
    if folder.is_dir():
        identity = f"sha256:{digest_path(folder)[:16]}"
    else:  # what a name on the hub stands for may change
        commit = hub_commit(model) if model.count("/") == 1 else None
        identity = f"{model}@{commit[:12]}" if commit else model
    changes = engine.model_dump(include={"dtype", "cache"}, exclude_defaults=True)
    return " ".join([identity, *(f"{name}={value}" for name, value in changes.items())])


def _tasks(names: Sequence[str], data: Sequence[Path], limit: int | None) -> list[Task]:
    """The tasks with these names; each published task takes the next data file."""
    published = [
        name.partition("/")[0] in (*FORMATS, *WITH_SETTING) and not Path(name).is_file() for name in names
    ]
    if sum(published) != len(data):
        raise WrongCall(
            f"--data is given {len(data)} times for {sum(published)} published tasks "
            f"({', '.join([*FORMATS, *WITH_SETTING])}); each takes one file, in the order of the tasks"
        )
    files = iter(data)
    return [
        load_task(name, limit=limit, data=next(files) if has_data else None)
        for name, has_data in zip(names, published, strict=True)
    ]


def _default_program(task: Task, shots: int) -> str:
    if task.format and task.format.scored:
        return "likelihood"
    return "few_shot" if task.format and shots else "direct"


def _published(
    task: Task,
    format: Format,
    name: str,
    chat: bool,
    shown: Sequence[Item],
    draw: Draw | None,
    max_new_tokens: int | None,
    answer_context: bool,
) -> Program:
    """The program with the wording of a published evaluation."""
    if chat or name == "chain_of_thought":
        raise WrongCall(
            f"{task.name} uses its published prompts, as text and without worked steps: leave out "
            f"{'--chat' if chat else '--program chain_of_thought'}, or pass the data file as --task"
        )
    wording = format.worded(draw.count if draw else 0)
    if name == "likelihood":
        if answer_context and not format.answer_context:
            raise WrongCall(f"{task.name} has no score by --answer-context; leave it out")
        return likelihood(shown, wording=wording, answer_context=format.answer_context, draw=draw)
    if task.items[0].choices and task.items[0].endings:
        raise WrongCall(
            f"{task.name} compares the probability of sentences; use --program likelihood, or leave it out"
        )
    usual = format.sampling
    sampling = dataclasses.replace(usual, max_new_tokens=max_new_tokens or usual.max_new_tokens)
    if draw:
        return few_shot(shown, sampling=sampling, wording=wording, draw=draw)
    return direct(sampling=sampling, wording=wording)


def _exemplars(task: Task, shots: int, path: Path | None, draw: Draw | None) -> Sequence[Item]:
    if shots < 0:
        raise WrongCall(f"--shots is {shots}; it must be at least 0")
    source: Sequence[Item] = task.exemplars
    if path is not None:
        source = task.format.items(path) if task.format else load_task(path).items
    asked = task.questions | {item.question for item in task.items}
    shown = source if draw else source[:shots]
    leaked = [item for item in shown if item.question in asked]
    if leaked and (not draw or len(shown) - len(leaked) < shots):
        raise CamelidError(
            f"{task.name}: the exemplar {leaked[0].id!r} is itself one of the questions; use other exemplars"
        )
    if len(source) < shots:
        raise WrongCall(
            f"--shots is {shots}, but there are {len(source)} exemplars for {task.name}; "
            "pass a file of solved questions with --exemplars FILE"
        )
    if leaked:
        logger.warning(f"{len(leaked)} of {len(shown)} exemplars are themselves questions and are not shown")
        shown = [item for item in shown if item.question not in asked]
    return shown if shots else ()


def _text_results(lm: LM, path: Path, identity: str, convention: Convention) -> list[Result]:
    """Perplexity and bits per byte on a text, as rows of the table; `n` is the number of tokens."""
    from camelid.engine.engine import Engine
    from camelid.engine.perplexity import perplexity

    if not isinstance(lm, Engine):
        raise WrongCall("--text needs a model folder: servers do not return the probability of a whole text")
    measured = perplexity(lm, (document for document, _ in Corpus(path)), convention)
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
        settings={"windows": described(convention, lm.context_length)},
    )
    return [row, dataclasses.replace(row, metric="bits_per_byte", value=measured.bits_per_byte)]
