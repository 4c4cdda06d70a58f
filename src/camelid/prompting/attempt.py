"""A program is a way of asking: a question in, an attempt with its whole trace out."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from camelid.lm.interface import LM, Completion, Prompt
from camelid.lm.sampling import Sampling
from camelid.prompting.asking import Question
from camelid.prompting.steps import Steps, generated, run


@dataclass(frozen=True)
class ChoiceScore:
    """How probable one choice, or its ending, is; lengths do not count the wording's space before it."""

    logprob: float
    tokens: int
    bytes: int
    characters: int
    unconditional: float | None = None
    """Its log-probability after only the answer context, if requested."""
    is_greedy: bool | None = False
    """Whether greedy decoding would generate exactly this; None if a server does not say."""
    text: str = ""
    """What was scored, with the wording's space before it."""
    content_free: float | None = None
    """Log-probability that the prompt gives it without a question, relative to the other choices, if
    requested."""


@dataclass(frozen=True)
class Attempt:
    """A model's answer to one question: all prompts and completions, and the text to grade."""

    prompts: tuple[Prompt, ...]
    completions: tuple[str, ...]
    text: str
    cut: bool = False
    """Whether the last completion was cut at the length limit."""
    scores: tuple[ChoiceScore, ...] = ()
    """One score per choice, if the program scores choices instead of generating."""
    tokens: int = 0
    """Tokens generated, in all samples; 0 if a server does not report them."""
    logprob: float | None = None
    """Natural log-probability of everything generated, if the model reports it."""
    samples: tuple["Attempt", ...] = ()
    """The attempts that were voted on or chosen from, if there were several."""
    elected: Mapping[str, int] = field(default_factory=dict)
    """For each way of reading an answer, the sample that stands for the answer with most votes; a way that
    found an answer in no sample is missing."""
    readings: Mapping[str, str | None] = field(default_factory=dict)
    """What each way of reading extracted from it, if it is a sample that votes."""
    score: float | None = None
    """How a scorer rates it, if it is a sample that was chosen from and has anything to rate."""

    @property
    def solution(self) -> tuple[Prompt, str]:
        """The question as it was asked, and everything that followed it, for a scorer.

        Of a chain of conversations only the last one, with its reply.
        """
        first, last = self.prompts[0], self.prompts[-1]
        if isinstance(first, str) and isinstance(last, str) and last.startswith(first):
            return first, last[len(first) :] + self.completions[-1]
        return last, self.completions[-1]

    @classmethod
    def of(
        cls, prompts: Sequence[Prompt], replies: Sequence[Completion], text: str | None = None
    ) -> "Attempt":
        """The attempt of one chain of prompts; `text` is what is graded, by default the last reply."""
        last = replies[-1]
        known = all(reply.logprobs for reply in replies)
        return cls(
            prompts=tuple(prompts),
            completions=tuple(reply.text for reply in replies),
            text=last.text if text is None else text,
            cut=last.finish_reason == "length",
            tokens=sum(len(reply.tokens) for reply in replies),
            logprob=sum(sum(reply.logprobs) for reply in replies) if known else None,
        )


Readings = Mapping[str, str | None]
"""The answer that each way of reading extracts from a reply, None if there is none."""
Read = Callable[[Question, str], Readings]
"""Reads the answers from a reply to a question, as its task grades it."""


@dataclass(frozen=True)
class Program:
    """A way of asking, with everything its answers depend on; calling it asks every question."""

    name: str
    version: int
    ask: Callable[[Question, Read | None], Steps[Attempt]]
    settings: Mapping[str, Any]
    shots: int = 0
    title: str = ""
    """Its name for people, by default the name with spaces; records are named by `name`, which is stable."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or self.name.replace("_", " "))

    def __call__(self, lm: LM, questions: Sequence[Question], read: Read | None = None) -> list[Attempt]:
        """One attempt for each question, in order; programs that vote need `read`, the task's own reading."""
        return run(lm, [self.ask(question, read) for question in questions])


def completed(prompt: Prompt, sampling: Sampling) -> Steps[Attempt]:
    """The attempt of a single prompt."""
    reply = yield from generated(prompt, sampling)
    return Attempt.of([prompt], [reply])


def until(sampling: Sampling, stop: tuple[str, ...]) -> Sampling:
    """The sampling with these stop strings, unless it already has some."""
    return sampling if sampling.stop else dataclasses.replace(sampling, stop=stop)
