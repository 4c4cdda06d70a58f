"""The quickstart's steps in order; finished steps are skipped."""

import logging
import math
from collections.abc import Callable
from pathlib import Path

from camelid.base.errors import WrongCall
from camelid.base.progress import in_time
from camelid.workflows.quickstart.budget import Budget
from camelid.workflows.quickstart.job import PRACTICE_STOPPED, Job
from camelid.workflows.quickstart.journal import Journal
from camelid.workflows.quickstart.working_clock import WorkingClock

logger = logging.getLogger(__name__)

LEAST_MINUTES = 0.5


def make_assistant(
    *,
    minutes: float = 12.0,
    out: Path = Path("quickstart"),
    text: tuple[Path, ...] = (),
    chats: tuple[Path, ...] = (),
    base: str | None = None,
    seed: int = 0,
    reinforce: bool = False,
    law: Path | None = None,
) -> None:
    """Makes a model that you can talk to: tokenizer, pretraining, tuning, 4 bits, evaluation, report.

    minutes: time for the whole job, which determines the sizes; text and chats: files instead of the
    generated world; base: a model folder or hub name to tune instead of pretraining one; reinforce: let the
    tuned model practise the world's hard skills; law: folder of the law that sizes pretraining. Raises
    `WrongCall` if these contradict each other.
    """
    if not (minutes >= LEAST_MINUTES and math.isfinite(60 * minutes)):
        raise WrongCall(f"--minutes is {minutes:g}; it must be a finite number of at least {LEAST_MINUTES:g}")
    if base is not None and text:
        raise WrongCall("--from tunes a finished model, so --text would not be used; leave one of them out")
    if base is not None and not chats:
        raise WrongCall(
            "--from needs --chats FILE: the generated conversations only suit a model of the generated world"
        )
    if base is not None and law is not None:
        raise WrongCall("--from trains no model from scratch, so --law has nothing to predict; leave one out")
    if reinforce and chats:
        raise WrongCall(
            "--reinforce practises the generated world's questions, which a model tuned on --chats cannot be "
            "asked; see camelid align --method grpo"
        )
    if missing := [path for path in (*text, *chats) if not path.exists()]:
        raise WrongCall(f"{missing[0]}: no such file or folder; --text and --chats need existing paths")
    _check_inputs(text, chats, base, law)
    arguments = {
        "minutes": minutes,
        "text": [str(path) for path in text],
        "chats": [str(path) for path in chats],
        "from": base,
        "seed": seed,
        "reinforce": reinforce,
        "law": False if law is None else str(law),
    }
    journal = Journal(out, arguments)
    with WorkingClock(journal.keep_time) as clock:
        journal.clock = clock
        budget = Budget(60 * minutes, used_before=sum(journal.seconds.values()), clock=clock)
        budget.reinforces = reinforce
        _run(Job(out, text, chats, base, seed, journal, budget, reinforce, law))


def _check_inputs(
    text: tuple[Path, ...], chats: tuple[Path, ...], base: str | None, law: Path | None
) -> None:
    """Reads the first document and conversation and finds the model, so that bad inputs fail before any
    work."""
    from camelid.data.read.conversations import Conversations
    from camelid.data.read.corpus import Corpus
    from camelid.formats.hub import resolve
    from camelid.formats.hugging_face.checkpoint import read_spec
    from camelid.scaling.saved import load_fit
    from camelid.text.tokenizer import load_tokenizer
    from camelid.train.stages import check_chat

    if law is not None:
        load_fit(law)
    if text:
        next(iter(Corpus(text, skip_bad_rows=True)))
    if chats:
        next(iter(Conversations(chats, skip_bad_rows=True)))
    if base is not None:
        folder = resolve(base)
        check_chat(folder, load_tokenizer(folder), encodes=read_spec(folder).encoder_layers > 0)


def _run(job: Job) -> None:
    """Runs every step, then prints what to do next."""
    from camelid.recipes.quantize import QuantizeRecipe
    from camelid.report.page import REPORT
    from camelid.train import stages
    from camelid.train.clock import TimeLimit
    from camelid.workflows.quantize import quantize
    from camelid.workflows.quickstart import recipes
    from camelid.workflows.quickstart.evaluation import evaluate_models
    from camelid.workflows.quickstart.page import write_quickstart_report
    from camelid.workflows.quickstart.world_files import write_world_for

    steps: list[tuple[str, Path, Callable[[], object]]] = []
    if not (job.text and job.chats) and job.base is None:
        steps.append(("data", job.data, lambda: write_world_for(job)))
    if job.base is None:
        steps.append(
            ("tokenizer", job.tokenizer, lambda: stages.learn_tokenizer(recipes.tokenizer_recipe(job)))
        )
        steps.append(
            (
                "pretrain",
                job.pretrained,
                lambda: stages.pretrain(recipes.pretrain_recipe(job), recipes.pretrain_limit(job)),
            )
        )
    tuning_limit = TimeLimit(job.budget.training_ends, lambda: job.budget.used)
    steps.append(("tune", job.tuned, lambda: stages.tune(recipes.tune_recipe(job), tuning_limit)))
    if job.practised:
        steps.append(("reinforce", job.reinforced, lambda: _practise(job)))
    steps.append(
        ("quantize", job.small, lambda: quantize(QuantizeRecipe(model=str(job.finished), out=job.small)))
    )
    for number, (name, made, step) in enumerate(steps, 1):
        used = f"{in_time(job.budget.used)} of {in_time(job.budget.seconds)} used"
        logger.info(f"\n[{number}/{len(steps) + 1}] {name}  ({used})")
        if made.exists():
            logger.info(f"already done: {made}")
            continue
        with job.journal.timed(name):
            step()
    logger.info(f"\n[{len(steps) + 1}/{len(steps) + 1}] evaluate  ({in_time(job.budget.used)} used)")
    page = job.out / REPORT
    if page.exists():
        logger.info(f"already done: {page}")
    else:
        with job.journal.timed("evaluate"):
            results = evaluate_models(job, recipes.tune_recipe(job))
        write_quickstart_report(job, results)
    print(f"\nDone in {in_time(sum(job.journal.seconds.values()))}. Report: {page}")
    print(f"Talk to it:   camelid chat {job.small}")
    print(f"In float32:   camelid chat {job.finished}")
    for note in job.journal.decisions.get("notes", ()):
        print(note)


def _practise(job: Job) -> None:
    """Reinforcement; where a gate stops it, the tuned model goes on and the report says why."""
    from camelid.align.alarms import LearningStopped
    from camelid.align.policy_stage import train_policy
    from camelid.train.clock import TimeLimit
    from camelid.train.parallel import ProcessGroup
    from camelid.workflows.quickstart import recipes

    limit = TimeLimit(job.budget.closing_begins, lambda: job.budget.used)
    try:
        train_policy(recipes.reinforce_recipe(job), ProcessGroup(), limit)
    except LearningStopped as stopped:
        logger.warning(f"practice stopped: {stopped}; going on with {job.tuned}")
        job.journal.decide(PRACTICE_STOPPED, lambda reason=str(stopped): reason)
