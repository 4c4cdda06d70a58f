"""Least-to-most prompting: a question is broken down, and its parts are answered in order (Zhou et al.,
arXiv:2205.10625).

    program = least_to_most(Decomposition(solutions, decompositions))
    attempts = program(lm, questions)

Each part is asked after the parts before it and their answers, so that a long question needs no step that is
longer than those of the exemplars.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from camelid.base.errors import WrongCall
from camelid.lm.interface import Completion
from camelid.lm.sampling import Sampling
from camelid.prompting.asking import Question
from camelid.prompting.attempt import Attempt, Program, Read, until
from camelid.prompting.steps import Steps, generated

PARTS = Sampling(max_new_tokens=256)
PART = Sampling(max_new_tokens=256)
MOST_PARTS = 20
"""More parts than any exemplar's: a model that goes on listing parts is stopped there."""

_QUOTED = re.compile(r'"([^"]*)"')


@dataclass(frozen=True)
class Decomposed:
    """An exemplar: a question, the parts that lead to it, and the reply to each.

    The last part is the question itself, or the last sentence of a word problem.
    """

    question: str
    parts: tuple[str, ...]
    replies: tuple[str, ...] = ()


@dataclass(frozen=True)
class BreakDown:
    """The texts of both stages, for `str.format`."""

    question: str = "Q: {question}\nA:"
    parts: str = ' To answer the question "{last}", we need to know: {listed}.'
    """How an exemplar lists the parts before the last; `listed` has them in quotation marks."""
    context: str = "{question}\n\n"
    """What stands before the parts and their replies when they are solved."""
    part: str = "Q: {part}\nA:"
    reply: str = " {reply}"
    separator: str = "\n\n"
    stop: tuple[str, ...] = ("\n\n", "\nQ:")
    last_of: Callable[[str], str] = lambda question: question
    """The last part of a question."""


def last_sentence(question: str) -> str:
    """The sentence in which a word problem asks, its last one."""
    return re.split(r"(?<=[.!?])\s+", question.strip())[-1]


WORD_PROBLEM = BreakDown(last_of=last_sentence)
"""A problem, and the question in its last sentence (appendix E.2 of the paper)."""
LIST = BreakDown(parts=" {listed}", context="")
"""Parts that stand for themselves, such as the beginnings of a list of words (appendix B)."""


@dataclass(frozen=True)
class Decomposition:
    """How questions of a kind are broken down: exemplars of both stages, and their wording.

    parts: gives the parts without asking the model, where they follow from the question (the beginnings of a
    list of words, a command of SCAN). Raises `WrongCall` without exemplars to solve by, and for an exemplar
    without a reply to each part.
    """

    solutions: tuple[Decomposed, ...]
    decompositions: tuple[Decomposed, ...] = ()
    wording: BreakDown = WORD_PROBLEM
    parts: Callable[[Question], Sequence[str]] | None = None

    def __post_init__(self) -> None:
        if not self.solutions or not (self.decompositions or self.parts):
            raise WrongCall(
                "least-to-most needs exemplars of both stages: decompositions, or `parts`, and solutions"
            )
        for each in self.solutions:
            if len(each.replies) != len(each.parts):
                raise WrongCall(
                    f"the exemplar {each.question[:60]!r} has {len(each.parts)} parts and "
                    f"{len(each.replies)} replies; each part needs one"
                )


def least_to_most(how: Decomposition, *, sampling: Sampling | None = None) -> Program:
    """Asks for the parts of a question, then answers them in order, the question itself last."""
    wording, parts = how.wording, how.parts
    solving = until(sampling or PART, wording.stop)
    listing = until(dataclasses.replace(solving, max_new_tokens=PARTS.max_new_tokens, stop=()), wording.stop)
    shown = wording.separator.join(_listed(wording, each) for each in how.decompositions)
    solved = wording.separator.join(_solved(wording, each) for each in how.solutions)

    def ask(question: Question, read: Read | None) -> Steps[Attempt]:
        prompts, replies = list[str](), list[Completion]()
        text = question.question
        if parts is None:
            prompt = wording.separator.join([shown, wording.question.format(question=text)])
            listed = yield from generated(prompt, listing)
            prompts.append(prompt)
            replies.append(listed)
            todo = parts_of(listed.text, wording.last_of(text))
        else:
            todo = [*parts(question)]
        context = wording.separator.join([solved, wording.context.format(question=text)])
        for part in todo:
            prompt = context + wording.part.format(part=part)
            reply = yield from generated(prompt, solving)
            prompts.append(prompt)
            replies.append(reply)
            context = prompt + wording.reply.format(reply=reply.text.strip()) + wording.separator
        return Attempt.of(prompts, replies)

    settings = {
        "decompositions": [dataclasses.astuple(each) for each in how.decompositions],
        "solutions": [dataclasses.astuple(each) for each in how.solutions],
        "wording": {name: value for name, value in vars(wording).items() if not callable(value)},
        "parts": "asked" if parts is None else "given",
        "sampling": dataclasses.asdict(solving),
    }
    return Program("least_to_most", 1, ask, settings, len(how.solutions), "least-to-most")


def parts_of(reply: str, last: str) -> list[str]:
    """The parts that a reply lists in quotation marks, without the question itself, and then `last`."""
    _, marker, after = reply.partition("we need to know")
    quoted = _QUOTED.findall(after if marker else reply)
    parts = list(
        dict.fromkeys(part.strip() for part in quoted if part.strip() and part.strip() != last.strip())
    )
    return [*parts[:MOST_PARTS], last]


def _listed(wording: BreakDown, each: Decomposed) -> str:
    before, last = each.parts[:-1] if wording.context else each.parts, each.parts[-1]
    listed = ", ".join(f'"{part}"' for part in before)
    return wording.question.format(question=each.question) + wording.parts.format(last=last, listed=listed)


def _solved(wording: BreakDown, each: Decomposed) -> str:
    asked = (
        wording.part.format(part=part) + wording.reply.format(reply=reply)
        for part, reply in zip(each.parts, each.replies, strict=True)
    )
    return wording.context.format(question=each.question) + wording.separator.join(asked)
