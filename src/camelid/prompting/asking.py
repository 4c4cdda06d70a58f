"""Builds the prompt of a question, from its wording and exemplars, as text to continue or as a
conversation."""

import dataclasses
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, Protocol

from camelid.base.errors import WrongCall
from camelid.lm.interface import Prompt
from camelid.text.conversation import Conversation, Message


class Question(Protocol):
    """What a program asks."""

    @property
    def question(self) -> str:
        """The question as text, or the text to continue."""

    @property
    def choices(self) -> Sequence[str] | None:
        """The possible answers of a multiple-choice question."""

    @property
    def lettered(self) -> bool:
        """Whether a prompt must list the choices with letters because the question does not name them."""

    @property
    def group(self) -> str:
        """What the question is about, if exemplars must be of the same group; otherwise empty."""

    @property
    def contexts(self) -> Sequence[str]:
        """For each choice the text before its ending, if that is not the question; otherwise empty."""

    @property
    def endings(self) -> Sequence[str]:
        """The texts to score, one per choice, if these are not the choices themselves; otherwise empty."""


class Exemplar(Question, Protocol):
    """A solved question that is shown to the model first."""

    @property
    def answer(self) -> str:
        """The right answer."""

    @property
    def rationale(self) -> str:
        """The worked steps that lead to it; may be empty."""


@dataclass(frozen=True)
class Wording:
    """The texts around a question, for `str.format`, and the strings at which an answer ends."""

    question: str
    answer: str
    reasoned: str
    separator: str
    answer_context: str
    """What precedes a choice when its unconditional probability is computed."""
    preamble: str = ""
    """What precedes the exemplars, with the question's `group`."""
    choices: str = "{question} Answer Choices: {choices}"
    """How choices with letters are listed after a question that does not name them."""
    choice: str = "({letter}) {choice}"
    """A choice in that list, with `letter` or `small`, the letter in lower case."""
    choice_separator: str = " "
    named: str = "({letter})"
    """How an exemplar names its right choice."""
    stop: tuple[str, ...] = ("\n",)
    stop_reasoned: tuple[str, ...] = ("\nQ:",)


QUESTION_ANSWER = Wording(
    question="Q: {question}\nA:",
    answer=" {answer}",
    reasoned="{rationale} The answer is {answer}.",
    separator="\n\n",
    answer_context="A:",
)
"""The format of Wei et al. (arXiv:2201.11903, appendix G)."""

SO_THE_ANSWER = dataclasses.replace(QUESTION_ANSWER, reasoned="{rationale} So the answer is {answer}.")
"""The same for questions of common sense and coins (tables 23 to 27 there)."""

CONTINUATION = dataclasses.replace(QUESTION_ANSWER, question="{question}", answer_context="Answer:")
"""The question itself is the text to continue: HellaSwag, LAMBADA, rows that hold their own prompt."""


@dataclass(frozen=True)
class Draw:
    """Exemplars sampled for each question, as in GPT-3 (arXiv:2005.14165, section 2.4).

    The sample depends only on the seed and the question, not on which other questions are asked.
    """

    count: int
    seed: int | None = 0
    """None: the first ones, in order."""

    def of(self, exemplars: Sequence[Exemplar], question: Question) -> Sequence[Exemplar]:
        """`count` different exemplars of the question's group, in random order if there is a seed."""
        if question.group:
            exemplars = [each for each in exemplars if each.group == question.group]
        if len(exemplars) < self.count:
            raise WrongCall(
                f"{self.count} exemplars are wanted, but there are {len(exemplars)} about {question.group}"
            )
        if self.seed is None:
            return exemplars[: self.count]
        return random.Random(f"{self.seed}:{question.question}").sample(exemplars, self.count)


@dataclass(frozen=True)
class Asking:
    """The prompts that all programs share: exemplars, then the question, as text or as turns of a
    conversation."""

    exemplars: tuple[Exemplar, ...] = ()
    chat: bool = False
    cue: str = ""
    """Appended to each question of a conversation."""
    reasoned: bool = False
    """Whether exemplars show their worked steps."""
    wording: Wording = QUESTION_ANSWER
    show_choices: bool = True
    """Whether choices that the question does not name are listed with letters."""
    draw: Draw | None = None
    """How exemplars are sampled for each question; without it, all are shown in order."""

    def __post_init__(self) -> None:
        if self.draw and not 0 <= self.draw.count <= len(self.exemplars):
            raise WrongCall(f"{self.draw.count} exemplars cannot be drawn from {len(self.exemplars)}")

    @property
    def shots(self) -> int:
        """The number of exemplars before a question."""
        return self.draw.count if self.draw else len(self.exemplars)

    def prompt(self, question: Question) -> Prompt:
        """The prompt of one question."""
        return self._prompt(question, self._shown(question))

    def scored(self, question: Question) -> list[tuple[Prompt, str]]:
        """Each text to score with the prompt before it; the prompts differ if the question has `contexts`.

        Raises `WrongCall` if the question has no choices.
        """
        endings = question.endings or question.choices
        if not endings:
            raise WrongCall(
                f"the question {question.question[:60]!r} has no choices to score; use the program direct"
            )
        contexts = question.contexts or [self._shown(question)] * len(endings)
        return [
            (self._prompt(question, context), ending)
            for context, ending in zip(contexts, endings, strict=True)
        ]

    def settings(self, **more: object) -> dict[str, Any]:
        """All settings as JSON values, for the record of an evaluation."""
        shown: Any = [list(self._solved(exemplar)) for exemplar in self.exemplars]
        if self.draw:
            digest = hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]
            more["draw"] = {"from": f"sha256:{digest}", "of": len(shown), **dataclasses.asdict(self.draw)}
            shown = []
        wording = dataclasses.asdict(self.wording)
        return {"chat": self.chat, "cue": self.cue, "exemplars": shown, "wording": wording, **more}

    def _prompt(self, question: Question, asked: str) -> Prompt:
        exemplars = self.draw.of(self.exemplars, question) if self.draw else self.exemplars
        solved = [self._solved(exemplar) for exemplar in exemplars]
        if self.chat:
            turns = Conversation.of(*((text + self.cue, reply) for text, reply in solved))
            return Conversation((*turns.messages, Message("user", asked + self.cue)))
        opening, answer = self.wording.question, self.wording.answer
        before = [opening.format(question=text) + answer.format(answer=reply) for text, reply in solved]
        preamble = self.wording.preamble.format(group=question.group)
        return preamble + self.wording.separator.join([*before, opening.format(question=asked)])

    def _solved(self, exemplar: Exemplar) -> tuple[str, str]:
        """An exemplar's question and answer; with contexts and endings, those of the right choice."""
        right = list(exemplar.choices).index(exemplar.answer) if exemplar.choices else 0
        text = exemplar.contexts[right] if exemplar.contexts else self._shown(exemplar)
        return text, exemplar.endings[right] if exemplar.endings else self._reply(exemplar)

    def _reply(self, exemplar: Exemplar) -> str:
        answer = self._named(exemplar)
        if not self.reasoned:
            return answer
        if not exemplar.rationale:
            raise WrongCall(f"the exemplar {exemplar.question[:60]!r} has no worked steps to show")
        return self.wording.reasoned.format(rationale=exemplar.rationale, answer=answer)

    def _shown(self, question: Question) -> str:
        """The question, with its choices listed if it does not name them itself."""
        if not (question.choices and question.lettered and self.show_choices):
            return question.question
        options = self.wording.choice_separator.join(
            self.wording.choice.format(letter=letter, small=letter.lower(), choice=choice)
            for letter, choice in zip(ascii_uppercase, question.choices, strict=False)
        )
        return self.wording.choices.format(question=question.question, choices=options)

    def _named(self, exemplar: Exemplar) -> str:
        """The answer as the model should give it: its letter if choices have letters."""
        if exemplar.choices and exemplar.lettered and self.show_choices:
            letter = ascii_uppercase[list(exemplar.choices).index(exemplar.answer)]
            return self.wording.named.format(letter=letter, small=letter.lower())
        return exemplar.answer
