"""Strings that end a completion: found across tokens, and in the spelling of special tokens."""

from collections import deque
from collections.abc import Sequence
from itertools import takewhile


class StopStrings:
    """Finds the earliest stop string in a text that grows by tokens.

    Special tokens are not part of the text, but a stop string may spell them, entirely or in part, as in
    transformers' `stop_strings`: `<|im_end|>` stops at that token also where the folder does not declare it
    as a stop token.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self.found: str | None = None
        """The stop string that ended the text."""
        self._longest = max(map(len, stops), default=0)
        # Where in the text special tokens stand, and their spelling. Each has a character, so older ones are
        # out of reach.
        self._special: deque[tuple[int, str]] = deque(maxlen=max(1, self._longest))

    def add_special(self, position: int, spelling: str) -> None:
        """Notes a special token that stands before the text's character at `position`."""
        self._special.append((position, spelling))

    def find(self, text: str, searched: int) -> int | None:
        """Where the text is to be cut, before the earliest stop string; its first `searched` characters held
        none."""
        views = self._views(text, max(0, searched - self._longest))
        cuts = [
            (places[found], stop)
            for spelled, places in views
            for stop in self._stops
            if (found := spelled.find(stop)) >= 0
        ]
        if not cuts:
            return None
        cut, self.found = min(cuts)
        return cut

    def pending(self, text: str) -> int:
        """The number of characters at the end of the text that a stop string may still take back."""
        begun = [
            places[len(spelled) - length]
            for spelled, places in self._views(text, max(0, len(text) - self._longest))
            for stop in self._stops
            for length in range(1, len(stop))
            if spelled.endswith(stop[:length])
        ]
        return len(text) - min(begun, default=len(text))

    def _views(self, text: str, begin: int) -> list[tuple[str, Sequence[int]]]:
        """The text from `begin` on, without special tokens and with them, and each character's place in the
        text."""
        if not self._stops:
            return []
        plain = text[begin:], range(begin, len(text) + 1)
        near = [*takewhile(lambda special: special[0] >= begin, reversed(self._special))][::-1]
        if not near:
            return [plain]
        spelled, places, end = "", [], begin
        for position, spelling in [*near, (len(text), "")]:
            spelled += text[end:position] + spelling
            places += [*range(end, position), *[position] * len(spelling)]
            end = position
        return [plain, (spelled, [*places, len(text)])]
