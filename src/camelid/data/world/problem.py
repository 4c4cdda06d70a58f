"""A question with its ground truth, before a cue is added."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A question, the worked steps that lead to the answer, and how long the chain of steps is.

    `steps` ends before the final sentence and is empty if there is nothing to work out (as for facts).
    `names` are the names in the question when these, rather than the wording, are its content; `key` is a
    stricter name-blind form than the wording, where there is one (for a story: what it is about); a `plain`
    wording is never held out, because others contain it.
    """

    question: str
    answer: str
    steps: str = ""
    length: int = 1
    choices: tuple[str, ...] | None = None
    names: tuple[str, ...] = ()
    key: str = ""
    plain: bool = False
