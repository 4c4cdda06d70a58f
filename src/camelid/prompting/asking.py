"""How a question is put: its wording, its exemplars, as text to continue or as turns of a conversation."""

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
        """The possible answers, where there are such."""

    @property
    def lettered(self) -> bool:
        """Whether a prompt must show the choices, with letters, because the question does not name them."""

    @property
    def contexts(self) -> Sequence[str]:
        """For each choice the text that its ending follows, where it is not the question; else nothing."""

    @property
    def endings(self) -> Sequence[str]:
        """The texts to score, one a choice, where these are not the choices themselves; else nothing."""


class Exemplar(Question, Protocol):
    """A question whose answer is shown to the model first."""

    @property
    def answer(self) -> str:
        """The right answer."""

    @property
    def rationale(self) -> str:
        """The worked steps that lead to it, or nothing."""


@dataclass(frozen=True)
class Wording:
    """The texts around a question, for `str.format`, and the strings at which an answer ends."""

    question: str
    answer: str
    reasoned: str
    separator: str
    answer_context: str
    """What precedes a choice when its unconditional probability is taken."""
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

CONTINUATION = dataclasses.replace(QUESTION_ANSWER, question="{question}", answer_context="Answer:")
"""The question is the text to continue, as it stands: HellaSwag, LAMBADA, rows that hold their own prompt."""


@dataclass(frozen=True)
class Draw:
    """Exemplars drawn anew for each question, as GPT-3 did (arXiv:2005.14165, section 2.4).

    The draw is a function of seed and question alone, so a question has the same exemplars in whatever company.
    """

    count: int
    seed: int = 0

    def of(self, exemplars: Sequence[Exemplar], question: Question) -> list[Exemplar]:
        """`count` different exemplars in random order."""
        return random.Random(f"{self.seed}:{question.question}").sample(exemplars, self.count)


CHOICES = "{question} Answer Choices: {choices}"
LETTERED = "({letter}) {choice}"


@dataclass(frozen=True)
class Asking:
    """What all programs share: exemplars, then the question, as text or as turns."""

    exemplars: tuple[Exemplar, ...] = ()
    chat: bool = False
    cue: str = ""
    """Appended to each question of a conversation."""
    reasoned: bool = False
    """Whether exemplars show their worked steps."""
    wording: Wording = QUESTION_ANSWER
    show_choices: bool = True
    """Whether choices that the question does not name are listed, with letters."""
    draw: Draw | None = None
    """How each question draws from the exemplars; else it is shown all of them, in order."""

    def __post_init__(self) -> None:
        if self.draw and not 0 <= self.draw.count <= len(self.exemplars):
            raise WrongCall(f"{self.draw.count} exemplars cannot be drawn from {len(self.exemplars)}")

    @property
    def shots(self) -> int:
        """How many exemplars stand before a question."""
        return self.draw.count if self.draw else len(self.exemplars)

    def prompt(self, question: Question) -> Prompt:
        """The prompt of one question."""
        return self._prompt(question, self._shown(question))

    def scored(self, question: Question) -> list[tuple[Prompt, str]]:
        """For each text to score the prompt that it follows; they differ where the question has `contexts`.

        Raises `WrongCall` where there is nothing to score.
        """
        endings = question.endings or question.choices
        if not endings:
            raise WrongCall(f"the question {question.question[:60]!r} has no choices to score; use direct")
        contexts = question.contexts or [self._shown(question)] * len(endings)
        return [
            (self._prompt(question, context), ending)
            for context, ending in zip(contexts, endings, strict=True)
        ]

    def settings(self, **more: object) -> dict[str, Any]:
        """All of it as JSON values, for the record of an evaluation."""
        shown: Any = [list(self._told(exemplar)) for exemplar in self.exemplars]
        if self.draw:
            digest = hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]
            more["draw"] = {"from": f"sha256:{digest}", "of": len(shown), **dataclasses.asdict(self.draw)}
            shown = []
        wording = dataclasses.asdict(self.wording)
        return {"chat": self.chat, "cue": self.cue, "exemplars": shown, "wording": wording, **more}

    def _prompt(self, question: Question, asked: str) -> Prompt:
        exemplars = self.draw.of(self.exemplars, question) if self.draw else self.exemplars
        told = [self._told(exemplar) for exemplar in exemplars]
        if self.chat:
            turns = Conversation.of(*((text + self.cue, reply) for text, reply in told))
            return Conversation((*turns.messages, Message("user", asked + self.cue)))
        opening, answer = self.wording.question, self.wording.answer
        before = [opening.format(question=text) + answer.format(answer=reply) for text, reply in told]
        return self.wording.separator.join([*before, opening.format(question=asked)])

    def _told(self, exemplar: Exemplar) -> tuple[str, str]:
        """An exemplar's question and answer; of contexts and endings, those of the right choice."""
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
        """The question, with its choices where it does not name them itself."""
        if not (question.choices and question.lettered and self.show_choices):
            return question.question
        options = " ".join(
            LETTERED.format(letter=letter, choice=choice)
            for letter, choice in zip(ascii_uppercase, question.choices, strict=False)
        )
        return CHOICES.format(question=question.question, choices=options)

    def _named(self, exemplar: Exemplar) -> str:
        """The answer as the model should give it: its letter where choices have letters."""
        if exemplar.choices and exemplar.lettered and self.show_choices:
            return f"({ascii_uppercase[list(exemplar.choices).index(exemplar.answer)]})"
        return exemplar.answer
