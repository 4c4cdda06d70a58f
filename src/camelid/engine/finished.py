"""The completions of many prompts as they leave the batch, each as soon as its last sample has ended."""

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Protocol

from camelid.engine.generation import Generation
from camelid.lm.interface import Outcome, Outcomes, Prompt, PromptTooLong, of_one_prompt
from camelid.lm.sampling import Sampling


class Requesting(Protocol):
    """What an engine does for `finished`."""

    def request(self, prompt: Prompt, sampling: Sampling, sample: int = 0) -> Generation:
        """One sample of one prompt."""

    def updates(self, requests: Sequence[Generation]) -> Generator[Generation, None, None]:
        """Each request when it has ended."""


def finished(engine: Requesting, prompts: Sequence[Prompt], sampling: Sampling) -> Outcomes:
    """Yields each prompt's index with its completions, or with its error, see `LM.each`."""
    groups: dict[int, list[Generation]] = {}
    for index, prompt in enumerate(prompts):
        try:
            groups[index] = [engine.request(prompt, sampling, n) for n in range(sampling.samples)]
        except PromptTooLong as error:
            yield index, error
    index_of = {generation: index for index, group in groups.items() for generation in group}
    left = {index: len(group) for index, group in groups.items()}
    with closing(engine.updates([*index_of])) as updates:
        while index_of and left:
            index = index_of[next(updates)]
            left[index] -= 1
            if not left[index]:
                del left[index]
                yield index, _outcome(groups.pop(index))


def _outcome(group: list[Generation]) -> Outcome:
    errors = [generation.error for generation in group if generation.error is not None]
    if errors:
        return of_one_prompt(errors[0])
    return [generation.completion() for generation in group]
