"""Ways of asking: a program is a function over an `LM`; its texts are the constants at the end of this file.

    attempts = direct()(lm, questions)
    attempts = chain_of_thought(exemplars)(lm, questions)

A program knows neither the task nor how an answer is graded. With `chat=True` the question is a user's turn
in a `Conversation`, which the model's chat template renders; otherwise it is text that the model continues.
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
    """How probable one choice, or its ending, is; lengths do not count the wording's space before it."""

    logprob: float
    tokens: int
    bytes: int
    characters: int
    unconditional: float | None = None
    """Its log-probability after only the answer context, if requested."""
    is_greedy: bool | None = False
    """Whether greedy decoding would generate exactly this; None if a server does not say."""


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


@dataclass(frozen=True)
class Program:
    """A way of asking, with everything its answers depend on; calling it asks every question."""

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
    """Asks each question directly, without exemplars or steps."""
    return few_shot((), chat=chat, sampling=sampling, wording=wording)


def few_shot(
    exemplars: Sequence[Exemplar],
    *,
    chat: bool = False,
    sampling: Sampling | None = None,
    wording: Wording = QUESTION_ANSWER,
    draw: Draw | None = None,
) -> Program:
    """Shows solved questions before each question (GPT-3, arXiv:2005.14165, section 2).

    Every question follows all of the exemplars, or with `draw` its own sample of them.
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
    """Lets the model reason in steps before it answers.

    With exemplars, their worked steps are shown, each ending in "The answer is X." (Wei et al.,
    arXiv:2201.11903). With `chat`, the question asks for steps. Otherwise there are two stages (Kojima et
    al., arXiv:2205.11916, section 3): first the steps, then `trigger` and the answer. The default trigger is
    the one in `TRIGGERS` that suits the choices.
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
    """Scores every choice as a continuation of the question; generates nothing and shows no letters.

    If a question has contexts, each is followed by its ending: the partial evaluation of Trinh and Le
    (arXiv:1806.02847), which GPT-3 uses for Winograd schemas. answer_context: also score each choice after
    only "A:", to normalise by (GPT-3, arXiv:2005.14165, section 2.4). Raises `WrongCall` for a question
    without choices, and for `answer_context` with `chat`.
    """
    if chat and answer_context:
        raise WrongCall("the answer context is plain text: use it without chat")
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
    """The text that asks for the final answer, depending on the choices (Kojima et al., section 3)."""
    if question.choices and question.lettered:
        return TRIGGERS["letter"].format(last=ascii_uppercase[len(question.choices) - 1])
    if question.choices and {choice.lower() for choice in question.choices} == {"yes", "no"}:
        return TRIGGERS["yes_no"]
    return TRIGGERS["text"]


def _generate(lm: LM, prompts: Sequence[Prompt], sampling: Sampling) -> list[Attempt]:
    return [
        Attempt((prompt,), (reply.text,), reply.text, reply.finish_reason == "length")
        for prompt, reply in zip(prompts, _first(lm, prompts, sampling), strict=True)
    ]


def _two_stages(
    lm: LM, openings: Sequence[str], triggers: Sequence[str], sampling: Sampling
) -> list[Attempt]:
    steps = _first(lm, openings, sampling)
    # The space before the line break is in the authors' repository.
    endings = [f"{o}{step.text} \n{t}" for o, step, t in zip(openings, steps, triggers, strict=True)]
    answers = _first(lm, endings, dataclasses.replace(sampling, max_new_tokens=ANSWER.max_new_tokens))
    return [
        Attempt((opening, ending), (step.text, reply.text), trigger + reply.text, reply.finish_reason == "length")
        for opening, ending, step, reply, trigger in zip(
            openings, endings, steps, answers, triggers, strict=True
        )
    ]  # fmt: skip


def _score(
    lm: LM, prompts: Sequence[Prompt], choices: Sequence[str], continuation: str, context: str | None
) -> list[ChoiceScore]:
    texts = [continuation.format(answer=choice) for choice in choices]
    different = list(dict.fromkeys(texts))  # questions often share choices, such as "yes" and "no"
    bare = [] if context is None else lm.score([context] * len(different), different)
    unconditional = {text: score.logprob for text, score in zip(different, bare, strict=bool(bare))}
    return [
        ChoiceScore(
            score.logprob,
            score.tokens,
            len(choice.encode()),
            len(choice),
            unconditional.get(text),
            score.is_greedy,
        )
        for score, text, choice in zip(lm.score(prompts, texts), texts, choices, strict=True)
    ]


def _different(options: Sequence[tuple[Prompt, str]]) -> tuple[Prompt, ...]:
    """The distinct prompts: only one, unless the choices have contexts of their own."""
    kept: list[Prompt] = []
    for prompt, _ in options:
        if prompt not in kept:
            kept.append(prompt)
    return tuple(kept)


def _first(lm: LM, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
    return [completions[0] for completions in lm.generate(prompts, sampling)]


def _until(sampling: Sampling, stop: tuple[str, ...]) -> Sampling:
    """The sampling with these stop strings, unless it already has some."""
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
