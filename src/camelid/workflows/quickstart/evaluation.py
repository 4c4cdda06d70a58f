"""The quickstart's evaluation: held-out questions, the loss on held-out conversations, and samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from camelid.base.digest import digest_path
from camelid.base.errors import CamelidError
from camelid.data import world
from camelid.data.read.conversations import Conversations
from camelid.data.rows.examples import conversation_examples, draw_of
from camelid.engine.engine import Engine
from camelid.evals.evaluate import Evaluation, evaluate
from camelid.evals.results import write_results
from camelid.formats.load import load_model
from camelid.lm.interface import LM, PromptTooLong
from camelid.lm.sampling import Sampling
from camelid.prompting.attempt import Program
from camelid.prompting.programs import chain_of_thought, direct
from camelid.recipes.tune import TuneRecipe
from camelid.runs.run import METRICS, read_metrics
from camelid.tasks.task import load_task
from camelid.text.conversation import Conversation, Message
from camelid.text.tokenizer import Tokenizer, load_tokenizer
from camelid.train.machine import fastest_dtype
from camelid.train.stages import token_lengths
from camelid.train.training_rows import decoder_rows
from camelid.train.validation import ValidationLoss, validation_loss
from camelid.workflows.quickstart.budget import Budget
from camelid.workflows.quickstart.job import LONGEST_REPLY, Job

MOST_QUESTIONS = 50
"""Questions per skill at most; the half-width of a Wilson interval is then at most 13 points."""
QUESTIONS_PER_MINUTE = 4
"""Questions per skill for each minute of the whole job: a short quickstart asks fewer."""
EVALUATION_SHARE = 0.7
"""Share of the closing time that the evaluation takes on a machine as fast as planned."""
REINFORCED = "reinforced"
"""The name of the model after reinforcement."""
STORIES = 10
TALKS = 3
MOST_TURNS = 4
REQUEST = "Please tell me a story."
SAMPLED = Sampling(max_new_tokens=400, temperature=0.7, top_p=0.95)


@dataclass(frozen=True)
class ModelResult:
    """One model of the quickstart: its loss on held-out conversations, and its evaluations by (task,
    program)."""

    name: str
    folder: Path
    chat_loss: ValidationLoss
    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True)
class Results:
    """Everything that the report shows about the models."""

    models: tuple[ModelResult, ...]
    talks: tuple[Conversation, ...]
    stories: tuple[str, ...]


def evaluate_models(job: Job, tuning: TuneRecipe) -> Results:
    """Measures the model before tuning, after it, after reinforcement if there was any, and at 4 bits.

    All answer in bfloat16; their loss is computed in the dtype in which this machine is fastest, since torch
    takes a hundred times as long for bfloat16 on a CPU without instructions for it.
    """
    folders = {"before tuning": job.pretrained, "16-bit": job.tuned}
    folders |= {REINFORCED: job.reinforced} if job.practised else {}
    folders |= {"4-bit": job.small}
    models = tuple(_measure(job, tuning, name, folder) for name, folder in folders.items())
    small = Engine.load(job.small, dtype=torch.bfloat16)
    replayed = (_replay(small, conversation) for conversation in _held_out_talks(job, tuning))
    talks = tuple(talk for talk in replayed if talk.messages)
    prompt = Conversation((Message("user", REQUEST),))
    stories: tuple[str, ...] = ()
    if job.asks_the_world:
        stories = tuple(
            completion.text
            for completion in small.generate([prompt], SAMPLED, samples=STORIES, seed=job.seed)[0]
        )
    return Results(models, talks, stories)


def _measure(job: Job, tuning: TuneRecipe, name: str, folder: Path) -> ModelResult:
    tokenizer, dtype = load_tokenizer(folder), fastest_dtype(torch.device("cpu"))
    _, held_out = decoder_rows(tuning, tokenizer)
    assert held_out is not None  # the quickstart's recipe always has validation data
    loss = validation_loss(load_model(folder, dtype), held_out, token_lengths(tokenizer), dtype)
    if not job.asks_the_world:
        return ModelResult(name, folder, loss, ())
    engine = Engine(load_model(folder, torch.bfloat16), tokenizer)
    out = job.out / "results" / name.replace(" ", "-")
    evaluations = tuple(
        evaluate(
            load_task(path), program, engine, out, questions(job), model=digest_path(folder), allow_cut=True
        )
        for path in sorted((job.data / "tasks").glob("*.jsonl"))
        for program in _programs(tuned=folder != job.pretrained)
    )
    write_results(out / "results.json", [row for evaluation in evaluations for row in evaluation.results])
    return ModelResult(name, folder, loss, evaluations)


def questions(job: Job) -> int:
    """The number of questions per skill that there is time for, decided once.

    On a machine that has become slower, or with less time left than was kept for the end, there are fewer.
    """
    return int(job.journal.decide("questions", lambda: questions_in_time(job.budget, _pace(job))))


def questions_in_time(budget: Budget, pace: float) -> int:
    """Questions per skill; pace: the machine's speed relative to that planned with."""
    planned = QUESTIONS_PER_MINUTE * budget.seconds / 60
    left = (budget.seconds - budget.used) / (EVALUATION_SHARE * budget.for_closing)
    return max(2, min(MOST_QUESTIONS, round(planned * min(1.0, pace, max(0.0, left)))))


def _pace(job: Job) -> float:
    """Tokens per second at the end of tuning, relative to those that the whole job was planned with."""
    sizes = job.journal.decisions.get("pretrain") or job.journal.decisions.get("tune", {})
    path = job.out / "tune" / METRICS
    speeds = [row["tokens_per_second"] for row in read_metrics(path) if "tokens_per_second" in row]
    return median(speeds[-20:]) / max(1, sizes["tokens_per_second"]) if speeds else 1.0


def _programs(tuned: bool) -> Sequence[Program]:
    """A tuned model is asked in its chat template, directly and in steps; a base model directly, as plain
    text."""
    sampling = Sampling(max_new_tokens=LONGEST_REPLY)
    if not tuned:
        return (direct(sampling=sampling),)
    return (direct(chat=True, sampling=sampling), chain_of_thought(chat=True, sampling=sampling))


def _held_out_talks(job: Job, tuning: TuneRecipe) -> Sequence[Conversation]:
    """The first few held-out conversations that fit into the context, chosen as tuning held them out."""
    if job.asks_the_world:
        return list(islice(world.conversations("test", job.seed), TALKS))
    tokenizer, fraction = load_tokenizer(job.tuned), tuning.data.validation_fraction
    source = Conversations(job.chats, tuning.data.skip_bad_rows)

    def fitting(below: float) -> Iterator[Conversation]:
        drawn = (pair for pair in source if draw_of(pair[0]) < below)
        return (talk for talk, where in drawn if _fits(tokenizer, talk, where, tuning))

    return list(islice(fitting(fraction), TALKS)) or [min(fitting(1.0), key=draw_of)]


def _fits(tokenizer: Tokenizer, talk: Conversation, where: str, tuning: TuneRecipe) -> bool:
    """Whether the chat template takes a conversation, and the context holds it."""
    try:
        return bool(
            conversation_examples(tokenizer, [(talk, where)], tuning.training.context_length).examples
        )
    except CamelidError:
        return False


def _replay(lm: LM, held_out: Conversation) -> Conversation:
    """A held-out conversation with the assistant's turns generated by the model, until the context is
    full."""
    turns: list[Message] = []
    answered = 0
    for message in held_out.messages:
        if message.role == "assistant":
            try:
                [[reply]] = lm.generate(
                    [replace(held_out, messages=tuple(turns))], max_new_tokens=LONGEST_REPLY * 2
                )
            except PromptTooLong:
                break
            turns.append(Message("assistant", reply.text))
            answered = len(turns)
            if answered >= 2 * MOST_TURNS:
                break
        else:
            turns.append(message)
    return Conversation(tuple(turns[:answered]))
