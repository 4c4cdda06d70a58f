"""What a maker returns: the rows that it keeps, each with its provenance, and counts of the dropped."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from camelid.data.read.conversation_shape import PROVENANCE

Row = dict[str, Any]


@dataclass
class Made:
    """Rows for `camelid tune`, and the dropped ones by reason; facts: more to say on the card."""

    rows: list[Row] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    facts: dict[str, Any] = field(default_factory=dict)

    def keep(self, row: Row, origin: dict[str, Any]) -> None:
        """Adds a row; origin: what it was made from, such as the id of its prompt and the seed."""
        self.rows.append({**row, PROVENANCE: origin})

    def drop(self, reason: str) -> None:
        """Counts a row that cannot be kept."""
        self.dropped[reason] += 1
