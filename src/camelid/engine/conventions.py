"""The conventions by which a perplexity is taken: it is a number of its windows as much as of its model."""

from typing import NamedTuple

from camelid.recipes.evaluate import Convention


class Windows(NamedTuple):
    """How a published convention cuts a text: windows without overlap, the tail left out."""

    length: int
    """Tokens; fewer where the model's context is shorter."""
    second_half: bool
    """Whether the second halves alone are scored, and every window begins with BOS where the text does."""

    def first(self, length: int) -> int:
        """The first token of a window of `length` that is scored."""
        return length // 2 + 1 if self.second_half else 1


PUBLISHED: dict[Convention, Windows] = {"papers": Windows(2048, False), "llama.cpp": Windows(512, True)}
"""GPTQ's and AWQ's tables (arXiv:2210.17323, 2306.00978), and llama.cpp's `llama-perplexity` with its
defaults."""


def described(convention: Convention, context_length: int) -> str:
    """How a perplexity was taken of a model of this context, in a few words."""
    if convention == "overlapping":
        return f"windows of {context_length:,} tokens that overlap by half"
    windows = PUBLISHED[convention]
    shorter = (
        f" (the model's context; the convention has {windows.length:,})"
        if context_length < windows.length
        else ""
    )
    scored = ", of which the second halves are scored" if windows.second_half else ""
    named = "the papers' convention" if convention == "papers" else "llama.cpp's convention"
    length = min(windows.length, context_length)
    return f"{named}: windows of {length:,} tokens{shorter} without overlap{scored}, the tail left out"
