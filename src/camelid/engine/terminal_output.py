"""An answer on standard output as it comes: as Markdown on a terminal, elsewhere as it is."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment, Segments

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
LINES_KEPT = 2
"""Of the screen, beside the block that is still being written."""


@contextmanager
def printing(markdown: bool, console: Console | None = None) -> Iterator[Callable[[str], None]]:
    """What prints the pieces of one answer; at the end a line is begun.

    markdown: whether a terminal shows the answer as Markdown. Other outputs, and terminals that cannot move
    their cursor, get the text itself.
    """
    console = console or Console(highlight=False)
    if not markdown or not console.is_terminal or console.is_dumb_terminal:
        yield lambda piece: print(piece, end="", flush=True)
        print(flush=True)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        blocks = _Blocks(live)
        try:
            yield blocks.push
        finally:
            blocks.end()


class _Blocks:
    """Blocks of Markdown: complete ones stay printed, the last one is drawn again with each piece."""

    def __init__(self, live: Live) -> None:
        self._live, self._rest = live, ""

    def push(self, piece: str) -> None:
        self._rest += piece
        done, self._rest = complete_blocks(self._rest)
        if done.strip():
            self._print(done)
        self._live.update(self._tail(), refresh=True)

    def end(self) -> None:
        self._live.update("", refresh=True)
        if self._rest.strip():
            self._print(self._rest)

    def _print(self, text: str) -> None:
        self._live.console.print(Markdown(text))

    def _tail(self) -> Segments:
        """The last lines of the open block: what is higher than the screen could not be drawn again."""
        console = self._live.console
        lines = console.render_lines(Markdown(self._rest), pad=False)[-max(1, console.height - LINES_KEPT) :]
        return Segments([segment for line in lines for segment in (*line, Segment.line())])


def complete_blocks(text: str) -> tuple[str, str]:
    """What of a text consists of whole blocks, up to an empty line that no block of code surrounds, and the
    rest."""
    cut = at = 0
    fence = ""
    for line in text.splitlines(keepends=True):
        at += len(line)
        found = FENCE.match(line)
        if found and not fence:
            fence = found[1]
        elif found and found[1].startswith(fence) and not line[found.end() :].strip():
            fence = ""
        elif not fence and not line.strip() and line.endswith("\n"):
            cut = at
    return text[:cut], text[cut:]
