"""The one interface to anything that generates text: our engine, an OpenAI-compatible server, or a test's
script.

    lm = camelid.LM("runs/first/model")
    [[answer]] = lm.generate(["Once upon a time"], max_new_tokens=64)
    scores = lm.score(["2 + 2 ="], [" 4"])

A prompt is a string, which the model continues, or a `Conversation`, in which it takes the next turn.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from camelid.base.errors import CamelidError, WrongCall
from camelid.lm.sampling import Sampling, with_changes
from camelid.text.conversation import Conversation

Prompt = str | Conversation
FinishReason = Literal["stop", "length"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Completion:
    """One generated text."""

    text: str
    """Without the stop string or stop token that ended it."""
    tokens: tuple[int, ...]
    """Every generated token, including the stop token; empty if a server does not report them."""
    logprobs: tuple[float, ...]
    """Natural log-probability of each token under the unmodified model: temperature 1, no filters."""
    finish_reason: FinishReason
    prompt_tokens: tuple[int, ...] = ()
    """The prompt's token ids as the model read them (the encoder's, if it has one); empty if a server does
    not report them."""
    sampled_logprobs: tuple[float, ...] = ()
    """Natural log-probability of each token under the distribution that it was sampled from: after
    constraint, penalties, bias, temperature and filters. 0 at temperature 0, where the choice is certain.
    Speculative decoding does not change it. Empty if a server does not report it."""
    counts: tuple[int | None, int | None] = (None, None)
    """Tokens of the prompt and of the completion as a server counts them, which names no tokens."""

    @property
    def token_counts(self) -> tuple[int | None, int | None]:
        """Tokens of the prompt and of the completion; None where nobody has counted them."""
        read, written = self.counts
        return len(self.prompt_tokens) or read, len(self.tokens) or written


@dataclass(frozen=True)
class Score:
    """How probable a continuation is after its prompt."""

    logprob: float
    """Natural log-probability of the whole continuation, summed over its tokens."""
    tokens: int
    is_greedy: bool | None
    """Whether greedy decoding would generate exactly this continuation; None if a server does not say."""
    logprobs: tuple[float, ...] = ()
    """Natural log-probability of each token; empty if the LM does not report it."""


Stream = Generator[str, None, Completion]


class PromptTooLong(WrongCall):
    """A prompt that leaves no room for an answer in the model's context."""


Outcome = list[Completion] | CamelidError
"""The completions of a prompt, or why it has none."""
Outcomes = Generator[tuple[int, Outcome], None, None]
"""Prompts by index with their outcomes; closed, it asks nothing more."""


class LM(ABC):
    """Anything that completes prompts and scores continuations."""

    @property
    def identity(self) -> str:
        """What identifies the model in results, such as a server's address and model; empty if unknown."""
        return ""

    @abstractmethod
    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.samples` completions for each prompt, in order."""

    @abstractmethod
    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        """The score of each continuation after the prompt of the same index; white space at a prompt's end
        counts as the continuation's (see `as_pairs`)."""

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling | None = None, **changes: Any
    ) -> list[list[Completion]]:
        """`complete` with the given sampling, or the default, with the fields in `changes` replaced.

        Raises `WrongCall` on an unknown field, and if `prompts` is a single string instead of a list.
        """
        return self.complete(as_list(prompts), with_changes(sampling, changes))

    def each(self, prompts: Sequence[Prompt], sampling: Sampling) -> Outcomes:
        """Yields each prompt's index with its completions as soon as they are finished, in any order.

        The error of one prompt takes the place of its completions, and the others go on; a wrong call raises.
        An LM that computes one prompt at a time answers in order.
        """
        for index, prompt in enumerate(prompts):
            try:
                [outcome] = self.complete([prompt], sampling)
            except CamelidError as error:
                yield index, of_one_prompt(error)
            else:
                yield index, outcome

    def stream(self, prompt: Prompt, sampling: Sampling | None = None, **changes: Any) -> Stream:
        """Yields the text of one completion in pieces as they are generated; the generator returns the
        completion.

        An LM that cannot stream yields the whole text at the end.
        """
        [[completion]] = self.generate([prompt], sampling, **{**changes, "samples": 1})
        yield completion.text
        return completion


def of_one_prompt(error: BaseException) -> CamelidError:
    """The error, if it is that of one prompt; raises it if it would be that of every prompt."""
    if isinstance(error, CamelidError) and (
        isinstance(error, PromptTooLong) or not isinstance(error, WrongCall)
    ):
        return error
    raise error


def as_list(values: Sequence[Value]) -> list[Value]:
    """The prompts as a list; raises `WrongCall` on a single prompt, and on values that are not prompts."""
    if isinstance(values, str | Conversation):
        raise WrongCall("a single prompt was given instead of a list of prompts: write [prompt]")
    listed = list(values)
    for index, value in enumerate(listed):
        if not isinstance(value, str | Conversation):
            raise WrongCall(f"prompt {index} is {value!r:.60}; a prompt must be a string or a Conversation")
    return listed


def as_pairs(prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[tuple[Prompt, str]]:
    """Each prompt with its continuation; white space at a prompt's end moves to the continuation.

    Vocabularies spell that space and the next word as one token, which would belong to neither otherwise;
    lm-evaluation-harness moves it, too. A prompt of only white space stays. Raises `WrongCall` if the numbers
    differ, and as `as_list` does.
    """
    left, right = as_list(prompts), as_list(continuations)
    if len(left) != len(right):
        raise WrongCall(
            f"there are {len(left)} prompts and {len(right)} continuations; give one continuation per prompt"
        )
    return [_without_end(*pair) for pair in zip(left, right, strict=True)]


def _without_end(prompt: Prompt, continuation: str) -> tuple[Prompt, str]:
    if not isinstance(prompt, str) or not (rest := prompt.rstrip()):
        return prompt, continuation
    return rest, prompt[len(rest) :] + continuation
