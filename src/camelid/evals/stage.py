"""`camelid eval`: accuracy on tasks, perplexity and bits per byte on text."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from camelid.data.corpus import Corpus
from camelid.errors import CamelidError, WrongCall
from camelid.evals.evaluate import evaluate as evaluate_task
from camelid.evals.graders import numeric
from camelid.evals.item import Item
from camelid.evals.results import Result, print_table, write_results
from camelid.evals.task import Task, load_task
from camelid.lm import LM, Sampling, connect
from camelid.prompting.asking import CONTINUATION, QUESTION_ANSWER
from camelid.prompting.programs import (
    ANSWER,
    STEPS,
    TRIGGERS,
    Program,
    chain_of_thought,
    direct,
    few_shot,
    likelihood,
)
from camelid.provenance import digest_path

ProgramName = Literal["direct", "few_shot", "chain_of_thought", "likelihood"]


def evaluate(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    out: Path,
    task: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    text: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = (),
    program: ProgramName = "direct",
    chat: bool = False,
    shots: int = 0,
    exemplars: Path | None = None,
    limit: int | None = None,
    max_new_tokens: int | None = None,
    answer_context: bool = False,
    allow_cut: bool = False,
) -> None:
    """Measures a model: accuracy with its interval on tasks, perplexity and bits per byte on text.

    Args:
        model: A model folder, a hub name or the URL of an OpenAI-compatible server.
        out: Folder for results.json and one JSONL line per question; the same call goes on where it stopped.
        task: A built-in task such as world/coin_flip, or a JSON(L) file of questions; can be given again.
        text: A text file, a folder of them or rows with `text`, to measure perplexity on; can be given again.
        program: How to ask.
        chat: Ask in the model's chat template.
        shots: Solved questions to show before each one.
        exemplars: A task file to take them from; built-in tasks have their own.
        limit: Ask the first questions of each task only.
        max_new_tokens: Length limit of a reply.
        answer_context: For likelihood, also divide by each choice's probability without its question.
        allow_cut: Only warn where every reply is empty or was cut at the length limit.
    """
    if not task and not text:
        raise WrongCall("nothing to measure: give --task NAME|FILE, or --text FILE")
    tasks = [load_task(name, limit=limit) for name in task]
    programs = [
        make_program(each, program, chat, shots, exemplars, max_new_tokens, answer_context) for each in tasks
    ]
    lm = connect(model)
    identity = model_identity(model)
    evaluations = [
        evaluate_task(each, how, lm, out, model=identity, allow_cut=allow_cut)
        for each, how in zip(tasks, programs, strict=True)
    ]
    results = [result for evaluation in evaluations for result in evaluation.results]
    results += [result for path in text for result in _text_results(lm, path, identity)]
    write_results(out / "results.json", results)
    print_table(results)
    for warning in (warning for evaluation in evaluations for warning in evaluation.warnings):
        print(f"warning: {warning}", file=sys.stderr)


def make_program(
    task: Task,
    name: str,
    chat: bool = False,
    shots: int = 0,
    exemplars: Path | None = None,
    max_new_tokens: int | None = None,
    answer_context: bool = False,
) -> Program:
    """The program of a name, worded for a task; raises `WrongCall` for settings that do not go together."""
    shown = _exemplars(task, shots, exemplars)
    if (name == "few_shot") != bool(shown) and name in ("direct", "few_shot"):
        raise WrongCall(
            "--program few_shot needs --shots K" if not shown else "--shots needs --program few_shot"
        )
    if answer_context and name != "likelihood":
        raise WrongCall("--answer-context needs --program likelihood")
    wording = CONTINUATION if task.continuation else QUESTION_ANSWER
    if name == "likelihood":
        return likelihood(shown, chat=chat, wording=wording, answer_context=answer_context)
    usual = STEPS if name == "chain_of_thought" else ANSWER
    sampling = Sampling(max_new_tokens=max_new_tokens or usual.max_new_tokens)
    if name == "chain_of_thought":
        trigger = TRIGGERS["number"] if task.grader is numeric else None
        return chain_of_thought(shown, chat=chat, sampling=sampling, wording=wording, trigger=trigger)
    if name == "few_shot":
        return few_shot(shown, chat=chat, sampling=sampling, wording=wording)
    return direct(chat=chat, sampling=sampling, wording=wording)


def model_identity(model: str) -> str:
    """What tells a model from others: the digest of its folder, or its name or URL."""
    folder = Path(model)
    return f"sha256:{digest_path(folder)[:16]}" if folder.is_dir() else model


def _exemplars(task: Task, shots: int, path: Path | None) -> Sequence[Item]:
    if shots < 0:
        raise WrongCall(f"--shots is {shots}; it must be at least 0")
    source = load_task(path).items if path is not None else task.exemplars
    if len(source) < shots:
        raise WrongCall(
            f"--shots is {shots} and there are {len(source)} exemplars for {task.name}; "
            "give a file of solved questions with --exemplars FILE"
        )
    asked = {item.question for item in task.items}
    if leaked := [item.id for item in source[:shots] if item.question in asked]:
        raise CamelidError(
            f"{task.name}: the exemplar {leaked[0]!r} is itself one of the questions; take others"
        )
    return source[:shots]


def _text_results(lm: LM, path: Path, identity: str) -> list[Result]:
    """Perplexity and bits per byte of a text, as rows of the table; `n` is the number of tokens."""
    from camelid.infer.engine import Engine
    from camelid.infer.perplexity import perplexity

    if not isinstance(lm, Engine):
        raise WrongCall("--text needs a model folder: a server does not give the probability of a whole text")
    measured = perplexity(lm, (document for document, _ in Corpus(path)))
    digest = digest_path(path)
    version = f"sha256:{digest[:8]}"
    evaluation = hashlib.sha256(f"{path.name} {digest} {identity}".encode()).hexdigest()[:16]
    return [
        Result(
            path.name, version, "perplexity@1", 0, metric, value, None, measured.tokens, identity, evaluation
        )
        for metric, value in (
            ("perplexity", measured.perplexity),
            ("bits_per_byte", measured.bits_per_byte),
        )
    ]
