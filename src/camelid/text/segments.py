"""Spans of a rendered conversation: what is trained, and what is tokenised together.

Marks in the rendered text begin and end them: Unicode noncharacters, "intended for process-internal use"
(Unicode 16, section 23.7), which are removed before the text is used.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from camelid.text.template_environment import TRAINED, UNTRAINED

LITERAL, MARKUP, BREAK = "\ufdd2", "\ufdd3", "\ufdd4"
HELD, FREE = "\ufdd5", "\ufdd6"
"""Begin and end the marker of an answer (`text.markers`); what a trained span has up to it is not trained."""
MARKS = re.compile(f"([{TRAINED}{UNTRAINED}{LITERAL}{MARKUP}{BREAK}{HELD}{FREE}])")
_BEFORE_ANSWER = re.compile(f"{TRAINED}([^{TRAINED}{UNTRAINED}{HELD}]*{HELD}[^{FREE}]*{FREE}{BREAK})")


@dataclass(frozen=True)
class Segment:
    """A span of a rendered conversation, and the loss weight of its tokens.

    trained: it is part of an assistant's turn, whose weight is 0 if the row says so. In `literal` text,
    special tokens are not recognised.
    """

    text: str
    trained: bool
    literal: bool = False
    weight: float = 1.0


def segments(marked: str, weights: Sequence[float]) -> list[Segment]:
    """Splits text at the marks and joins neighbours of the same kind, so that they are tokenised together.

    weights: of each trained span, 1 where there are fewer.
    """
    found: list[Segment] = []
    trained = literal = broken = False
    weight, left = 1.0, iter(weights)
    for piece in MARKS.split(_BEFORE_ANSWER.sub(rf"\1{TRAINED}", marked)):
        if piece in (TRAINED, UNTRAINED):
            trained = piece == TRAINED
            weight = next(left, 1.0) if trained else 1.0
        elif piece in (LITERAL, MARKUP):
            literal = piece == LITERAL
        elif piece == BREAK:
            broken = True
        elif piece and piece not in (HELD, FREE):
            new = Segment(piece, trained, literal, weight)
            if found and not broken and replace(found[-1], text=piece) == new:
                new = replace(new, text=found.pop().text + piece)
            found.append(new)
            broken = False
    return found


def turn_length(turn: str, content: str) -> int:
    """Length of the assistant's part of a rendered turn: all but white space after the terminator."""
    words, content = turn.rstrip(), content.rstrip()
    # If only white space follows the content, it is the terminator. The content is searched from
    # the beginning, because a terminator may end like a short answer (`>` and `<|im_end|>`).
    after = words.find(content) + len(content)
    ends_in_space = not words or (content and content in words and after == len(words))
    return len(turn) if ends_in_space else len(words)
