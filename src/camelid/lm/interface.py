"""The one seam to anything that speaks: our engine, an OpenAI-compatible server, or a script in a test.

    lm = camelid.LM("runs/first/model")
    [[answer]] = lm.generate(["Once upon a time"], max_new_tokens=64)
    scores = lm.score(["2 + 2 ="], [" 4"])

A prompt is a string, which the model continues, or a `Conversation`, whose next turn it says.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from camelid.base.errors import WrongCall
from camelid.lm.sampling import Sampling, with_changes
from camelid.text.conversation import Conversation

Prompt = str | Conversation
FinishReason = Literal["stop", "length"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Completion:
    """What the model said."""

    text: str
    """Without the stop string or stop token that ended it."""
    tokens: tuple[int, ...]
    """Every token generated, the ending one included; empty where a server does not tell."""
    logprobs: tuple[float, ...]
    """Natural log-probability of each token under the model itself: temperature 1, no filter."""
    finish_reason: FinishReason
    prompt_tokens: tuple[int, ...] = ()
    """The prompt's ids as the model read them (an encoder's, where there is one); empty where a server does not tell."""
    sampled_logprobs: tuple[float, ...] = ()
    """Natural log-probability of each token under the distribution that it was drawn from: after constraint, penalties,
    bias, temperature and filters. 0 at temperature 0, where the choice is certain. Guesses (speculative decoding) do not
    change it. Empty where a server does not tell."""


@dataclass(frozen=True)
class Score:
    """How probable a continuation is after its prompt."""

    logprob: float
    """Natural log-probability of the whole continuation, summed over its tokens."""
    tokens: int
    is_greedy: bool
    """Whether greedy decoding would say exactly this."""
    logprobs: tuple[float, ...] = ()
    """Natural log-probability of each token; empty where an LM does not tell."""


Stream = Generator[str, None, Completion]


class PromptTooLong(WrongCall):
    """A prompt that leaves no room for an answer in the model's context."""


class LM(ABC):
    """Anything that completes prompts and says how probable a continuation is."""

    @abstractmethod
    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.samples` completions for each prompt, in order."""

    @abstractmethod
    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        """The score of each continuation after the prompt of the same index."""

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling | None = None, **changes: Any
    ) -> list[list[Completion]]:
        """`complete` with the sampling given, or the default one, after `changes` to its fields.

        Raises `WrongCall` on an unknown field, and where `prompts` is one string instead of a list.
        """
        return self.complete(as_list(prompts), with_changes(sampling, changes))

    def stream(self, prompt: Prompt, sampling: Sampling | None = None, **changes: Any) -> Stream:
        """The text of one completion in pieces as they come; the generator returns the whole completion.

        Where an LM has no pieces to give, it is one piece at the end.
        """
        [[completion]] = self.generate([prompt], sampling, **{**changes, "samples": 1})
        yield completion.text
        return completion


def as_list(values: Sequence[Value]) -> list[Value]:
    """The values as a list; raises `WrongCall` on a lone string or conversation, and on what is neither of them."""
    if isinstance(values, str | Conversation):
        raise WrongCall("one prompt was given where a list of prompts is needed: write [prompt]")
    listed = list(values)
    for index, value in enumerate(listed):
        if not isinstance(value, str | Conversation):
            raise WrongCall(f"prompt {index} is {value!r:.60}; a prompt is a string or a Conversation")
    return listed


def as_pairs(prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[tuple[Prompt, str]]:
    """Each prompt with its continuation; raises `WrongCall` where they are not as many, and as `as_list` does."""
    left, right = as_list(prompts), as_list(continuations)
    if len(left) != len(right):
        raise WrongCall(f"there are {len(left)} prompts and {len(right)} continuations: each prompt has one")
    return list(zip(left, right, strict=True))
