"""The skills of the world as graded questions, with held-out ones by construction."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal

from camelid.base.errors import WrongCall
from camelid.data.world.arithmetic import groups, one_or_more_sums
from camelid.data.world.bible import ALL_NAMES
from camelid.data.world.dates import dates, months, weekdays
from camelid.data.world.facts import chain_question, fact_question
from camelid.data.world.grammar import Dice, capitalised
from camelid.data.world.problem import Problem
from camelid.data.world.puzzles import coin_flip, comparison, kinds, last_letters
from camelid.data.world.splits import Split, name_blind, split_of
from camelid.data.world.stories import story_question

THINK = "Let's think step by step."
DIRECT = "Answer directly."
_PATIENCE = 500  # repeated questions in a row, after which a skill counts as exhausted

# Every third name. A training question on letters holds at least two names outside this set, a held-out one
# none: a change of one name can never turn the one into the other.
SHY_NAMES = frozenset(ALL_NAMES[::3])


@dataclass(frozen=True)
class Skill:
    """A kind of question; lengths are inclusive ranges of the number of steps, `longer` exceeds training.

    `about_names` questions are not held out by their name-blind form: a text made only of them must be held
    out as a whole.
    """

    name: str
    make: Callable[[Dice, int], Problem]
    grader: Literal["exact", "numeric", "choice"]
    lengths: tuple[int, int]
    longer: tuple[int, int] | None
    has_steps: bool = True
    about_names: bool = False


SKILLS: Mapping[str, Skill] = {
    skill.name: skill
    for skill in (
        Skill("coin_flip", coin_flip, "choice", (2, 4), (5, 7)),
        Skill("last_letters", last_letters, "exact", (2, 4), (5, 7), about_names=True),
        Skill("comparison", comparison, "choice", (2, 4), (5, 6)),
        Skill("kinds", kinds, "choice", (3, 4), (5, 6)),
        Skill("weekdays", weekdays, "exact", (1, 4), (5, 7)),
        Skill("months", months, "exact", (1, 4), (5, 7)),
        Skill("dates", dates, "exact", (1, 4), (5, 7)),
        Skill("facts", fact_question, "exact", (1, 1), None, has_steps=False),
        Skill("chains", chain_question, "exact", (2, 2), (3, 3)),
        Skill("sums", one_or_more_sums, "numeric", (1, 2), (3, 4)),
        Skill("groups", groups, "numeric", (2, 4), (5, 6)),
        Skill("story_questions", story_question, "exact", (1, 1), (2, 3), has_steps=False),
    )
}


@dataclass(frozen=True)
class WorldItem:
    """A question as the model gets it, its answer and the worked steps.

    `steps` is the wanted reply up to the final sentence; it is empty for direct answers.
    """

    id: str
    skill: str
    question: str
    answer: str
    steps: str
    choices: tuple[str, ...] | None
    length: int

    @property
    def reply(self) -> str:
        """What a model should say: the steps and `The answer is X.`, or just `X.`"""
        return reply_of(self.skill, self.answer, self.steps)


def reply_of(skill: str, answer: str, steps: str) -> str:
    """The wanted reply; last letters stay in lower case, other direct answers are capitalised."""
    if steps:
        return f"{steps} The answer is {answer}."
    return f"{answer if skill == 'last_letters' else capitalised(answer)}."


def problem_split(problem: Problem) -> Split | None:
    """The split that a question of trained length may be used in, or `None` if in no split at all."""
    if problem.plain:
        return "train"
    if not problem.names:
        return split_of(problem.key or name_blind(problem.question))
    shy = sum(name in SHY_NAMES for name in problem.names)
    if shy == len(problem.names):
        return "validation" if blake2b(problem.question.encode()).digest()[0] % 2 else "test"
    return "train" if shy <= len(problem.names) - 2 else None


def draw(skill: Skill, split: Split, dice: Dice) -> Problem:
    """One problem of the split; raises `WrongCall` if the skill has no lengths beyond training."""
    if split == "longer":
        if skill.longer is None:
            raise WrongCall(
                f"skill {skill.name!r} has no questions longer than in training; use another split"
            )
        return skill.make(dice, dice.between(*skill.longer))
    while True:
        problem = skill.make(dice, dice.between(*skill.lengths))
        if problem_split(problem) == split:
            return problem


def pose(skill: Skill, problem: Problem, steps: bool | None) -> tuple[str, str]:
    """The question with its cue, and the steps of the wanted reply.

    `True` asks to think step by step, `False` to answer directly; with `None` the question has no cue. The
    reply works in steps unless the question asks for a direct answer or the problem has none.
    """
    if steps is None:
        return problem.question, problem.steps
    cue = THINK if steps else DIRECT
    return f"{problem.question} {cue}", problem.steps if steps else ""


def mixed_cue(dice: Dice) -> bool | None:
    """The training mixture: 30 % with each of the two cues, 40 % without."""
    return dice.weighted({True: 0.3, False: 0.3, None: 0.4})


def items(skill: str, split: Split, count: int, seed: int = 0, steps: bool | None = None) -> list[WorldItem]:
    """`count` different questions of one skill; `steps` as in `pose`.

    Raises `WrongCall` for an unknown skill, for one without longer questions, and if the split holds fewer.
    """
    if skill not in SKILLS:
        raise WrongCall(f"unknown skill {skill!r}; allowed: {', '.join(SKILLS)}")
    known, dice = SKILLS[skill], Dice("items", skill, split, seed)
    found: list[WorldItem] = []
    seen: set[str] = set()
    draws = 0
    while len(found) < count:
        problem = draw(known, split, dice)
        draws += 1
        if problem.question in seen:
            if draws > _PATIENCE:
                raise WrongCall(
                    f"{skill}/{split} has about {len(found)} different questions; {count} were requested"
                )
            continue
        draws = 0
        seen.add(problem.question)
        question, worked = pose(known, problem, steps)
        identity = f"{skill}-{split}-{seed}-{len(found)}"
        found.append(
            WorldItem(identity, skill, question, problem.answer, worked, problem.choices, problem.length)
        )
    return found


def task_row(item: WorldItem) -> dict[str, Any]:
    """The item as a row of a JSONL task: id, question, answer, choices (where there are any) and grader."""
    row = asdict(item)
    kept = {key: row[key] for key in ("id", "question", "answer", "choices") if row[key] is not None}
    return {**kept, "grader": SKILLS[item.skill].grader}
