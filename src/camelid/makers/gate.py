"""The gate that ends a job whose results would be thrown away: no empty file after hours."""

from collections import Counter, deque

from camelid.base.errors import CamelidError, shortened


class Gate:
    """Raises `CamelidError` when too few of the last `window` results are kept.

    least: the smallest share to keep; unit: what is counted, in the plural; 0 keeps the gate open.
    """

    def __init__(self, window: int, least: float, unit: str) -> None:
        self.least, self.unit, self.closed = least, unit, False
        self._last: deque[tuple[str | None, str]] = deque(maxlen=window)

    def see(self, dropped: str | None, text: str) -> None:
        """Counts a result: why it was dropped, None if it was kept, and its text as an example."""
        self._last.append((dropped, text))
        size = len(self._last)
        if size < (self._last.maxlen or 0):
            return
        kept = sum(reason is None for reason, _ in self._last)
        if kept < self.least * size:
            reasons = Counter(reason for reason, _ in self._last if reason is not None)
            listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            [(often, _)] = reasons.most_common(1)
            self.closed = True
            example = next(text for reason, text in self._last if reason == often)
            raise CamelidError(
                f"only {kept} of the last {size} {self.unit} were kept ({listed}; an example of '{often}': "
                f"{shortened(example, 200)}), fewer than --least-kept {self.least:g}; stopped early, with "
                "all replies on disk. Use a stronger teacher or other settings, or lower --least-kept and "
                "run the same command again"
            )
