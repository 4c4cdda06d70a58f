"""Real rows as text, with the trained tokens in colour, or in brackets where there is none."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console
from rich.text import Text

from camelid.data.rows.examples import ConversationExamples
from camelid.data.rows.text_examples import PairExamples
from camelid.text.tokenizer import Tokenizer

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BRACKETS = "[[", "]]"


def shown_rows(
    made: ConversationExamples | PairExamples, tokenizer: Tokenizer, count: int, coloured: bool
) -> list[Text]:
    """The first `count` rows: place, sizes, and the text with its trained tokens marked.

    coloured: mark them in colour instead of brackets; a loss weight other than 1 stands in front of its
    tokens.
    """
    shown = []
    for (ids, weights), where in zip(_weighted(made, count), made.places, strict=False):
        trained = sum(weight > 0 for weight in weights)
        how = "in green" if coloured else f"in {_BRACKETS[0]} {_BRACKETS[1]}"
        row = Text().append(
            f"{where}: {len(ids):,} tokens, the {trained:,} trained ones {how}\n", "bold" if coloured else ""
        )
        shown.append(row.append_text(_marked(tokenizer, ids, weights, coloured)))
    return shown


@dataclass(frozen=True)
class ShownRows:
    """How many rows of training data to print, and whether in colour."""

    rows: int = 0
    coloured: bool = False

    def with_rows(
        self, seen: str, made: ConversationExamples | PairExamples, tokenizer: Tokenizer
    ) -> str | Text:
        """What was found, and below it the first rows."""
        if not self.rows:
            return seen
        return Text("\n").join([Text(seen), *shown_rows(made, tokenizer, self.rows, self.coloured)])


NOTHING_SHOWN = ShownRows()


def colours_on_stderr() -> bool:
    """Whether the log goes to a terminal that shows colours."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def with_escapes(text: Text) -> str:
    """The text with the escape sequences of its colours."""
    console = Console(force_terminal=True, color_system="standard", no_color=False, highlight=False)
    with console.capture() as capture:
        console.print(text, soft_wrap=True, end="")
    return capture.get()


def _weighted(
    made: ConversationExamples | PairExamples, count: int
) -> Iterator[tuple[list[int], list[float]]]:
    """The ids of the first rows with their loss weights; of a pair, the source and then the target."""
    if isinstance(made, PairExamples):
        for pair in made.pairs[:count]:
            ids = [*pair.source.tolist(), *pair.targets.tolist()]
            yield ids, [0.0] * len(pair.source) + pair.weights.tolist()
    else:
        for example in made.examples[:count]:
            ids = [*example.tokens[:1].tolist(), *example.targets.tolist()]
            yield ids, [0.0, *example.weights.tolist()]


def _marked(tokenizer: Tokenizer, ids: Sequence[int], weights: Sequence[float], coloured: bool) -> Text:
    text = Text()
    for run, weight in _runs(tokenizer, ids, weights):
        shown = _CONTROL.sub(lambda control: f"\\x{ord(control[0]):02x}", run)
        factor = "" if weight in (0, 1) else f"{weight:g}: "
        if not weight:
            text.append(shown, style="dim" if coloured else "")
        elif coloured:
            text.append(factor, style="yellow").append(shown, style="green" if not factor else "yellow")
        else:
            text.append(f"{_BRACKETS[0]}{factor}{shown}{_BRACKETS[1]}")
    return text


def _runs(tokenizer: Tokenizer, ids: Sequence[int], weights: Sequence[float]) -> Iterator[tuple[str, float]]:
    """The text of each run of tokens of one weight."""
    before, end = "", 0
    for weight, run in groupby(weights):
        end += sum(1 for _ in run)
        # Decoded from the beginning: some vocabularies drop the space that a text begins with.
        text = tokenizer.decode(ids[:end], skip_special_tokens=False)
        yield text[len(before) :], weight
        before = text
