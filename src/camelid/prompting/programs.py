"""Ways of asking: a program is a function over an `LM`; its texts are the constants at the end of this file.

    attempts = direct()(lm, questions)
    attempts = chain_of_thought(exemplars)(lm, questions)

A program knows neither the task nor how an answer is graded. With `chat=True` the question is a user's turn
in a `Conversation`, which the model's chat template renders; otherwise it is text that the model continues.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from string import ascii_uppercase

from camelid.base.errors import WrongCall
from camelid.lm.interface import Prompt
from camelid.lm.sampling import Sampling
from camelid.prompting.asking import QUESTION_ANSWER, Asking, Draw, Exemplar, Question, Wording
from camelid.prompting.attempt import Attempt, ChoiceScore, Program, Read, completed, until
from camelid.prompting.calibration import ContentFree, content_free_priors
from camelid.prompting.steps import Steps, generated, scored


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
    how = until(sampling or ANSWER, () if chat else wording.stop)

    def ask(question: Question, read: Read | None) -> Steps[Attempt]:
        return completed(asking.prompt(question), how)

    settings = asking.settings(sampling=dataclasses.asdict(how))
    name, title = ("few_shot", "few-shot") if asking.shots else ("direct", "direct")
    return Program(name, 1, ask, settings, asking.shots, title)


def chain_of_thought(
    exemplars: Sequence[Exemplar] = (),
    *,
    chat: bool = False,
    sampling: Sampling | None = None,
    wording: Wording = QUESTION_ANSWER,
    trigger: str | None = None,
    cue: str | None = None,
) -> Program:
    """Lets the model reason in steps before it answers.

    With exemplars, their worked steps are shown, each ending in "The answer is X." (Wei et al.,
    arXiv:2201.11903). With `chat`, the question asks for steps. Otherwise there are two stages (Kojima et
    al., arXiv:2205.11916, section 3): first the steps, then `trigger` and the answer. The default trigger is
    the one in `TRIGGERS` that suits the choices. cue: what asks for steps, by default `STEPS_CUE`.
    """
    asks = STEPS_CUE if cue is None else cue
    asking = Asking(tuple(exemplars), chat, asks if chat else "", True, wording)
    how = until(sampling or STEPS, () if chat else wording.stop_reasoned)
    staged = not (chat or exemplars)

    def ask(question: Question, read: Read | None) -> Steps[Attempt]:
        prompt = asking.prompt(question)
        if not staged:
            return completed(prompt, how)
        return _two_stages(f"{prompt}{asks}", trigger or trigger_of(question), how)

    settings = asking.settings(sampling=dataclasses.asdict(how), staged=staged, trigger=trigger)
    settings |= {} if cue is None else {"steps_cue": cue}
    return Program("chain_of_thought", 1, ask, settings, len(exemplars))


def likelihood(
    exemplars: Sequence[Exemplar] = (),
    *,
    chat: bool = False,
    wording: Wording = QUESTION_ANSWER,
    answer_context: bool = False,
    content_free: Sequence[str] = (),
    draw: Draw | None = None,
) -> Program:
    """Scores every choice as a continuation of the question; generates nothing and shows no letters.

    If a question has contexts, each is followed by its ending: the partial evaluation of Trinh and Le
    (arXiv:1806.02847), which GPT-3 uses for Winograd schemas. answer_context: also score each choice after
    only "A:", to normalise by (GPT-3, arXiv:2005.14165, section 2.4). content_free: also score the choices
    after these texts in place of the question, for contextual calibration (see `calibration`). Raises
    `WrongCall` for a question without choices, for `answer_context` with `chat`, and for `content_free` with
    questions whose prompts differ by choice, or with drawn exemplars.
    """
    if chat and answer_context:
        raise WrongCall("the answer context is plain text: use it without chat")
    if content_free and draw:
        raise WrongCall("calibration compares with one fixed prompt: leave out drawn exemplars")
    asking = Asking(tuple(exemplars), chat, "", False, wording, show_choices=False, draw=draw)
    continuation = "{answer}" if chat else wording.answer
    context = wording.answer_context if answer_context else None

    def ask(question: Question, read: Read | None) -> Steps[Attempt]:
        prompts, choices = zip(*asking.scored(question), strict=True)
        scores = yield from _scores(prompts, choices, continuation, context)
        if content_free:
            scores = yield from _calibrated(asking, question, scores, content_free)
        different = [prompt for at, prompt in enumerate(prompts) if prompt not in prompts[:at]]
        return Attempt(tuple(different), (), "", scores=scores)

    settings = asking.settings(answer_context=context)
    settings |= {"content_free": list(content_free)} if content_free else {}
    return Program("likelihood", 1, ask, settings, asking.shots)


def trigger_of(question: Question) -> str:
    """The text that asks for the final answer, depending on the choices (Kojima et al., section 3)."""
    if question.choices and question.lettered:
        return TRIGGERS["letter"].format(last=ascii_uppercase[len(question.choices) - 1])
    if question.choices and {choice.lower() for choice in question.choices} == {"yes", "no"}:
        return TRIGGERS["yes_no"]
    return TRIGGERS["text"]


def _two_stages(opening: str, trigger: str, sampling: Sampling) -> Steps[Attempt]:
    steps = yield from generated(opening, sampling)
    # The space before the line break is in the authors' repository.
    ending = f"{opening}{steps.text} \n{trigger}"
    answer = yield from generated(ending, dataclasses.replace(sampling, max_new_tokens=ANSWER.max_new_tokens))
    return Attempt.of([opening, ending], [steps, answer], trigger + answer.text)


def _scores(
    prompts: Sequence[Prompt], choices: Sequence[str], continuation: str, context: str | None
) -> Steps[tuple[ChoiceScore, ...]]:
    texts = [continuation.format(answer=choice) for choice in choices]
    bare = [] if context is None else [context] * len(texts)
    scores = yield from scored([*prompts, *bare], [*texts, *texts[: len(bare)]])
    unconditional = [score.logprob for score in scores[len(texts) :]] if bare else [None] * len(texts)
    return tuple(
        ChoiceScore(
            score.logprob, score.tokens, len(choice.encode()), len(choice), alone, score.is_greedy, text
        )
        for score, alone, choice, text in zip(scores, unconditional, choices, texts, strict=False)
    )


def _calibrated(
    asking: Asking, question: Question, scores: Sequence[ChoiceScore], texts: Sequence[str]
) -> Steps[tuple[ChoiceScore, ...]]:
    """The scores with the log-probability of each choice after the texts in place of the question."""
    if question.contexts:
        raise WrongCall(
            f"the question {question.question[:60]!r} has a prompt for each choice; "
            "use it without calibration"
        )
    empty = [ContentFree(text, question.choices, question.endings, group=question.group) for text in texts]
    prompts = [prompt for each in empty for prompt, _ in asking.scored(each)]
    found = yield from scored(prompts, [score.text for score in scores] * len(texts))
    logprobs = [score.logprob for score in found]
    rows = [logprobs[at : at + len(scores)] for at in range(0, len(logprobs), len(scores))]
    return tuple(
        dataclasses.replace(score, content_free=prior)
        for score, prior in zip(scores, content_free_priors(rows), strict=True)
    )


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
