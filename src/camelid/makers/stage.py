"""The stages of `camelid make`: from a recipe to a folder with rows, their card and a report.

replies.jsonl   every reply of the teacher, as it came; a stopped job goes on from here
rows.jsonl      the rows, which `camelid tune` takes by the folder's name
card.json       counts, cost, teacher, licence, settings
report.html     the same to read
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from camelid.base.atomic import write_text_atomically
from camelid.base.digest import digest_paths
from camelid.base.errors import CamelidError
from camelid.base.journal import Journal
from camelid.base.json import json_line, write_json
from camelid.base.lock import HeldError, lock_of
from camelid.data.read.conversation_shape import PROVENANCE
from camelid.data.read.conversations import Conversations
from camelid.data.read.files import CARD, MADE_ROWS, REPLIES
from camelid.data.read.prompts import Question, Questions
from camelid.engine.fan_out import open_on
from camelid.engine.open_lm import is_url, model_identity
from camelid.evals.rewards import open_reward
from camelid.lm.sampling import Sampling
from camelid.makers import answers, preferences, self_chat, self_instruct
from camelid.makers.card import card_of
from camelid.makers.gate import Gate
from camelid.makers.made import Made
from camelid.makers.seeds import digest_of, read_seeds
from camelid.makers.self_chat import make_self_chats
from camelid.makers.self_instruct import ALPACA, SELF_INSTRUCT, Plan
from camelid.makers.teacher import Teacher
from camelid.recipes.make import (
    AnsweringRecipe,
    MakeAnswersRecipe,
    MakePreferencesRecipe,
    MakeRecipe,
    MakeSelfChatRecipe,
    MakeSelfInstructRecipe,
)
from camelid.recipes.settings import is_free
from camelid.report.making import instruction_sections, making_report
from camelid.report.page import write_report
from camelid.report.values import Section
from camelid.runs.licences import NOT_STATED, Licence, concerns, licences_of_model
from camelid.text.conversation import Conversation

logger = logging.getLogger(__name__)

SAMPLES = 12
"""Rows on the report."""


def make_answers(recipe: MakeAnswersRecipe) -> Path:
    """Lets the teacher answer the questions of a recipe's files."""

    def made_of(asked: Sequence[Question], teacher: Teacher, sampling: Sampling) -> Made:
        return answers.make_answers(asked, teacher, sampling, recipe.system)

    return _about_questions(recipe, answers.VERSION, made_of)


def make_self_chat(recipe: MakeSelfChatRecipe) -> Path:
    """Lets the teacher write conversations about the questions of a recipe's files."""

    def made_of(asked: Sequence[Question], teacher: Teacher, sampling: Sampling) -> Made:
        return make_self_chats(asked, teacher, sampling, chat=recipe.chat, most_turns=recipe.turns)

    return _about_questions(recipe, self_chat.VERSION, made_of)


def make_preferences(recipe: MakePreferencesRecipe) -> Path:
    """Lets a model answer the questions of a recipe's files several times, and ranks its answers."""
    reward = open_reward(recipe.reward, seconds=recipe.reward_seconds, device=recipe.engine.device)

    def made_of(asked: Sequence[Question], teacher: Teacher, sampling: Sampling) -> Made:
        return preferences.make_preferences(asked, teacher, sampling, reward, recipe.samples, recipe.system)

    return _about_questions(recipe, preferences.VERSION, made_of)


def _about_questions(
    recipe: AnsweringRecipe | MakeSelfChatRecipe,
    version: str,
    made_of: Callable[[Sequence[Question], Teacher, Sampling], Made],
) -> Path:
    questions = Questions(recipe.prompts, recipe.skip_bad_rows)
    asked = [*questions][: recipe.limit]
    for problem in questions.skipped:
        logger.warning(problem)
    sampling = Sampling(recipe.max_new_tokens, recipe.temperature, top_p=recipe.top_p, seed=recipe.seed)
    data = digest_paths(questions.files)
    with _working(recipe, version, data) as (teacher, origin):
        made = made_of(asked, teacher, sampling)
        made.facts["questions"] = {"asked": len(asked), "bad_rows": len(questions.skipped)}
        _finish(recipe, made, teacher, origin, data)
    return recipe.out


def make_self_instruct(recipe: MakeSelfInstructRecipe) -> Path:
    """Lets the teacher write instructions and their instances."""
    [path] = recipe.seeds or [None]
    seeds, in_one_step = read_seeds(path), recipe.variant == "alpaca"
    paper = ALPACA if in_one_step else SELF_INSTRUCT
    changes = recipe.model_dump(include={"temperature", "top_p", "presence_penalty"}, exclude_none=True)
    sampling = replace(paper, max_new_tokens=recipe.max_new_tokens, seed=recipe.seed, **changes)
    gate = Gate(recipe.window, recipe.least_kept, "instructions")
    plan = Plan(recipe.count, recipe.batch, sampling, gate, recipe.chat, recipe.novelty)
    data = {"seed tasks": digest_of(seeds)}
    with _working(recipe, self_instruct.VERSION, data) as (teacher, origin):
        made = (self_instruct.alpaca if in_one_step else self_instruct.self_instruct)(seeds, teacher, plan)
        if early := made.facts.get("stopped_early"):
            logger.warning(f"stopped before {recipe.count} instructions: {early}")
        self_instruct.describe(made, seeds)
        _finish(recipe, made, teacher, origin, data, instruction_sections(made.facts))
    return recipe.out


@contextmanager
def _working(
    recipe: MakeRecipe, version: str, data: Mapping[str, str]
) -> Iterator[tuple[Teacher, dict[str, Any]]]:
    """The teacher with its earlier replies, and its part of the card; the folder is locked meanwhile."""
    _refuse_foreign(recipe.out)
    lm = open_on(recipe.teacher, recipe.engine, recipe.server, recipe.on)
    identity = lm.identity or model_identity(recipe.teacher, recipe.engine)
    recipe.out.mkdir(parents=True, exist_ok=True)
    journal = Journal(
        recipe.out / REPLIES,
        _digest(recipe, version, identity, data),
        key="making",
        inputs="teacher, questions or settings",
    )
    gate = Gate(recipe.window, recipe.least_kept, "first replies")
    try:
        with lock_of(recipe.out / ".make.lock"):
            teacher = Teacher(lm, journal, tries=recipe.tries, gate=gate, show=True)
            yield teacher, _origin(recipe, identity)
    except HeldError as held:
        raise CamelidError(f"{recipe.out} is being written by process {held}; wait for it") from None


def _refuse_foreign(out: Path) -> None:
    """Raises `CamelidError` if a folder holds files, but none of a job of this kind."""
    if out.exists() and not out.is_dir():
        raise CamelidError(f"{out} is a file; give a folder with --out")
    found = (
        sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) if out.exists() else []
    )
    if found and REPLIES not in found:
        raise CamelidError(f"{out} holds {found[0]}, but no {REPLIES}; choose another --out folder")


def _origin(recipe: MakeRecipe, identity: str) -> dict[str, Any]:
    """The teacher's name, identity, licence and terms."""
    folder, terms = Path(recipe.teacher), recipe.terms or NOT_STATED
    found = licences_of_model(folder, recipe.licence) if folder.is_dir() else []
    licence = ", ".join(each.licence for each in found) or recipe.licence or NOT_STATED
    name = identity if is_url(recipe.teacher) else folder.name or recipe.teacher
    for concern in concerns([Licence("teacher", name, licence, terms)]):
        logger.warning(concern)
    return {"name": name, "identity": identity, "licence": licence, "terms": terms}


def _digest(recipe: MakeRecipe, version: str, identity: str, data: Mapping[str, str]) -> str:
    """Digest of everything that the replies depend on."""
    free = {name for name, info in type(recipe).model_fields.items() if is_free(info)}
    paths = {"out", "teacher", "prompts"}  # their contents count
    settings = recipe.model_dump(mode="json", exclude=free | paths)
    inputs = {"settings": settings, "version": version, "teacher": identity, "data": sorted(data.values())}
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def _finish(
    recipe: MakeRecipe,
    made: Made,
    teacher: Teacher,
    origin: dict[str, Any],
    data: Mapping[str, str],
    sections: Sequence[Section] = (),
) -> None:
    """Writes rows, card and report, and shows where they are."""
    if not made.rows:
        reasons = ", ".join(f"{reason} {count}" for reason, count in made.dropped.most_common())
        raise CamelidError(f"no row could be kept ({reasons}); {recipe.out / REPLIES} has every reply")
    card = card_of(recipe, made, teacher, origin, dict(data))
    for row in made.rows:
        row[PROVENANCE] |= {"by": card["maker"], "teacher": origin["identity"]}
    write_text_atomically(recipe.out / MADE_ROWS, "".join(map(json_line, made.rows)))
    write_json(recipe.out / CARD, card)
    write_report(making_report(card, _samples(recipe.out), str(recipe.out), sections), recipe.out)
    counts = card["counts"]
    dropped = sum(made.dropped.values())
    print(f"{counts['rows']:,} rows kept, {dropped:,} dropped, of {counts['replies']:,} replies")
    print(f"{recipe.out / 'report.html'}")


def _samples(out: Path) -> list[Conversation]:
    """Some of the rows, from the first to the last, read as `camelid tune` reads them."""
    rows = [conversation for conversation, _ in Conversations(out)]
    return rows[:: max(1, len(rows) // SAMPLES)][:SAMPLES]
