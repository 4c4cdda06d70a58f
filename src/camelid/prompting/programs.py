"""Ways of asking: a program is a function over an `LM`; its words are the data at the foot of this page.

    attempts = direct()(lm, questions)
    attempts = chain_of_thought(exemplars)(lm, questions)

A program knows neither the task nor how an answer is graded. With `chat=True` the question is a user's turn in
a `Conversation`, which the model's own template renders; otherwise it is text that the model continues.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from camelid.base.errors import WrongCall
from camelid.lm.interface import LM, Completion, Prompt
from camelid.lm.sampling import Sampling
from camelid.prompting.asking import QUESTION_ANSWER, Asking, Draw, Exemplar, Question, Wording


@dataclass(frozen=True)
class ChoiceScore:
    """How probable one choice is, or the ending in its place; lengths are without the wording's space before it."""

    logprob: float
    tokens: int
    bytes: int
    characters: int
    unconditional: float | None = None
    """Its log-probability after the answer context alone, where that was asked for."""
    is_greedy: bool = False
    """Whether greedy decoding would say exactly this."""


@dataclass(frozen=True)
class Attempt:
    """What a model said to one question: everything that was sent and came back, and the text to grade."""

    prompts: tuple[Prompt, ...]
    completions: tuple[str, ...]
    text: str
    cut: bool = False
    """Whether the last completion ended at the length limit."""
    scores: tuple[ChoiceScore, ...] = ()
    """One score a choice, where the program scores choices instead of generating."""


@dataclass(frozen=True)
class Program:
    """A way of asking and everything its answers depend on; called, it asks every question."""

    name: str
    version: int
    ask: Callable[[LM, Sequence[Question]], list[Attempt]]
    settings: Mapping[str, Any]
    shots: int = 0

    def __call__(self, lm: LM, questions: Sequence[Question]) -> list[Attempt]:
        """One attempt for each question, in order."""
        return self.ask(lm, questions)


def direct(
    *, chat: bool = False, sampling: Sampling | None = None, wording: Wording = QUESTION_ANSWER
) -> Program:
    """Asks each question and takes what the model says."""
    return few_shot((), chat=chat, sampling=sampling, wording=wording)


def few_shot(
    exemplars: Sequence[Exemplar],
    *,
    chat: bool = False,
    sampling: Sampling | None = None,
    wording: Wording = QUESTION_ANSWER,
    draw: Draw | None = None,
) -> Program:
    """Shows questions with their answers before each question (GPT-3, arXiv:2005.14165, section 2).

    All of the exemplars stand before every question, or those that each draws.
    """
    asking = Asking(tuple(exemplars), chat, DIRECT_CUE if chat else "", False, wording, draw=draw)
    how = _until(sampling or ANSWER, () if chat else wording.stop)

    def ask(lm: LM, questions: Sequence[Question]) -> list[Attempt]:
        return _generate(lm, [asking.prompt(question) for question in questions], how)

    settings = asking.settings(sampling=dataclasses.asdict(how))
    return Program("few_shot" if asking.shots else "direct", 1, ask, settings, asking.shots)


def chain_of_thought(
    exemplars: Sequence[Exemplar] = (),
    *,
    chat: bool = False,
    sampling: Sampling | None = None,
    wording: Wording = QUESTION_ANSWER,
    trigger: str | None = None,
) -> Program:
    """Lets the model work in steps before it answers.

    With exemplars, their worked steps are shown, "The answer is X." at their end (Wei et al., arXiv:2201.11903).
    With `chat`, the question asks for steps. Else there are two stages (Kojima et al., arXiv:2205.11916, section 3):
    the steps, then `trigger`, by default the one in `TRIGGERS` that the choices suggest, and the answer.
    """
    asking = Asking(tuple(exemplars), chat, STEPS_CUE if chat else "", True, wording)
    how = _until(sampling or STEPS, () if chat else wording.stop_reasoned)
    staged = not (chat or exemplars)

    def ask(lm: LM, questions: Sequence[Question]) -> list[Attempt]:
        prompts = [asking.prompt(question) for question in questions]
        if not staged:
            return _generate(lm, prompts, how)
        triggers = [trigger or trigger_of(question) for question in questions]
        return _two_stages(lm, [f"{prompt}{STEPS_CUE}" for prompt in prompts], triggers, how)

    settings = asking.settings(sampling=dataclasses.asdict(how), staged=staged, trigger=trigger)
    return Program("chain_of_thought", 1, ask, settings, len(exemplars))


def likelihood(
    exemplars: Sequence[Exemplar] = (),
    *,
    chat: bool = False,
    wording: Wording = QUESTION_ANSWER,
    answer_context: bool = False,
    draw: Draw | None = None,
) -> Program:
    """Scores every choice as the continuation of the question; nothing is generated, and no letters are shown.

    Where a question has contexts, each is followed by its ending: the partial evaluation of Trinh and Le
    (arXiv:1806.02847), by which GPT-3 answers Winograd schemas. answer_context: also score each choice after "A:" alone, to divide by (GPT-3, arXiv:2005.14165, section 2.4).
    Raises `WrongCall` for a question without choices, and where `answer_context` is asked of a conversation.
    """
    if chat and answer_context:
        raise WrongCall("the answer context is a piece of text: it cannot be used with a conversation")
    asking = Asking(tuple(exemplars), chat, "", False, wording, show_choices=False, draw=draw)
    continuation = "{answer}" if chat else wording.answer
    context = wording.answer_context if answer_context else None

    def ask(lm: LM, questions: Sequence[Question]) -> list[Attempt]:
        pairs = [asking.scored(question) for question in questions]
        prompts = [prompt for options in pairs for prompt, _ in options]
        endings = [ending for options in pairs for _, ending in options]
        scores = iter(_score(lm, prompts, endings, continuation, context))
        return [
            Attempt(_different(options), (), "", scores=tuple(next(scores) for _ in options))
            for options in pairs
        ]

    return Program("likelihood", 1, ask, asking.settings(answer_context=context), asking.shots)


def trigger_of(question: Question) -> str:
    """The words that ask for the final answer, as the choices suggest (Kojima et al., section 3)."""
    if question.choices and question.lettered:
        return TRIGGERS["letter"].format(last=ascii_uppercase[len(question.choices) - 1])
    if question.choices and {choice.lower() for choice in question.choices} == {"yes", "no"}:
        return TRIGGERS["yes_no"]
    return TRIGGERS["text"]


def _generate(lm: LM, prompts: Sequence[Prompt], sampling: Sampling) -> list[Attempt]:
    return [
        Attempt((prompt,), (said.text,), said.text, said.finish_reason == "length")
        for prompt, said in zip(prompts, _first(lm, prompts, sampling), strict=True)
    ]


def _two_stages(
    lm: LM, openings: Sequence[str], triggers: Sequence[str], sampling: Sampling
) -> list[Attempt]:
    steps = _first(lm, openings, sampling)
    # The space before the line break is the authors' own (their repository joins with it).
    endings = [f"{o}{step.text} \n{t}" for o, step, t in zip(openings, steps, triggers, strict=True)]
    answers = _first(lm, endings, dataclasses.replace(sampling, max_new_tokens=ANSWER.max_new_tokens))
    return [
        Attempt((opening, ending), (step.text, said.text), trigger + said.text, said.finish_reason == "length")
        for opening, ending, step, said, trigger in zip(
            openings, endings, steps, answers, triggers, strict=True
        )
    ]  # fmt: skip


def _score(
    lm: LM, prompts: Sequence[Prompt], choices: Sequence[str], continuation: str, context: str | None
) -> list[ChoiceScore]:
    texts = [continuation.format(answer=choice) for choice in choices]
    different = list(dict.fromkeys(texts))  # "yes" and "no" are the choices of every question of a task
    bare = [] if context is None else lm.score([context] * len(different), different)
    alone = {text: score.logprob for text, score in zip(different, bare, strict=bool(bare))}
    return [
        ChoiceScore(
            score.logprob,
            score.tokens,
            len(choice.encode()),
            len(choice),
            alone.get(text),
            score.is_greedy,
        )
        for score, text, choice in zip(lm.score(prompts, texts), texts, choices, strict=True)
    ]


def _different(options: Sequence[tuple[Prompt, str]]) -> tuple[Prompt, ...]:
    """The prompts without repetition; there is one, unless the choices have contexts of their own."""
    kept: list[Prompt] = []
    for prompt, _ in options:
        if prompt not in kept:
            kept.append(prompt)
    return tuple(kept)


def _first(lm: LM, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
    return [completions[0] for completions in lm.generate(prompts, sampling)]


def _until(sampling: Sampling, stop: tuple[str, ...]) -> Sampling:
    """The sampling with these stop strings, unless it has its own."""
    return sampling if sampling.stop else dataclasses.replace(sampling, stop=stop)


ANSWER = Sampling(max_new_tokens=64)
STEPS = Sampling(max_new_tokens=256)

DIRECT_CUE = " Answer directly."
STEPS_CUE = " Let's think step by step."

TRIGGERS = {
    "number": "Therefore, the answer (arabic numerals) is",
    "letter": "Therefore, among A through {last}, the answer is",
    "yes_no": "Therefore, the answer (Yes or No) is",
    "text": "Therefore, the answer is",
}

PROGRAMS: Mapping[str, Callable[..., Program]] = {
    "direct": direct,
    "few_shot": few_shot,
    "chain_of_thought": chain_of_thought,
    "likelihood": likelihood,
}
