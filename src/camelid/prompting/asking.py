"""How a question is put: its wording, its exemplars, as text to continue or as turns of a conversation."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, Protocol

from camelid.errors import WrongCall
from camelid.lm import Prompt
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

    def prompt(self, question: Question) -> Prompt:
        """The prompt of one question."""
        if self.chat:
            shown = [(self._shown(exemplar) + self.cue, self._reply(exemplar)) for exemplar in self.exemplars]
            asked = Message("user", self._shown(question) + self.cue)
            return Conversation((*Conversation.of(*shown).messages, asked))
        told = [
            self._open(exemplar) + self.wording.answer.format(answer=self._reply(exemplar))
            for exemplar in self.exemplars
        ]
        return self.wording.separator.join([*told, self._open(question)])

    def settings(self, **more: object) -> dict[str, Any]:
        """All of it as JSON values, for the record of an evaluation."""
        shown = [[self._shown(exemplar), self._reply(exemplar)] for exemplar in self.exemplars]
        wording = dataclasses.asdict(self.wording)
        return {"chat": self.chat, "cue": self.cue, "exemplars": shown, "wording": wording, **more}

    def _open(self, question: Question) -> str:
        return self.wording.question.format(question=self._shown(question))

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
