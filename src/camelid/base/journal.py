"""A JSON lines file that a job appends to while it works, so that a killed job continues where it was.

Each row has the digest of everything that the job's results depend on, under the job's own key; rows of
another job are refused.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError
from camelid.base.json import json_line, whole_lines


@dataclass(frozen=True)
class Journal:
    """The file of one job. key: names the job's kind, and holds its digest in each row; inputs: what the
    digest is of, in words; elsewhere: what to do with a file of another job."""

    path: Path
    digest: str
    key: str
    inputs: str
    elsewhere: str = "choose another --out folder"

    def rows(self) -> list[dict[str, Any]]:
        """The rows so far; a line cut off by a crash is removed from the file.

        Raises `CamelidError` if the file holds something else.
        """
        if not self.path.exists():
            return []
        lines = whole_lines(self.path, remedy=f"{self._foreign}; {self.elsewhere}")
        for number, (row, _) in enumerate(lines, start=1):
            self._check(f"{self.path}:{number}", row)
        if (end := lines[-1][1] if lines else 0) < self.path.stat().st_size:
            os.truncate(self.path, end)
        return [row for row, _ in lines]

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Appends a line for each row, with the digest, and waits until they are on disk."""
        self.path.parent.resolve().mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.writelines(json_line({**row, self.key: self.digest}) for row in rows)
            file.flush()
            os.fsync(file.fileno())

    @property
    def _foreign(self) -> str:
        return f"not a line of {'an' if self.key[0] in 'aeiou' else 'a'} {self.key}"

    def _check(self, where: str, row: Any) -> None:
        found = row.get(self.key) if isinstance(row, dict) else None
        if found is None:
            raise CamelidError(f"{where}: {self._foreign}; {self.elsewhere}")
        if found != self.digest:
            raise CamelidError(
                f"{where}: this line is from another {self.key} ({self.inputs} differ: {found}, "
                f"now {self.digest}); {self.elsewhere}, or remove the file"
            )
