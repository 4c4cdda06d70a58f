"""What was seen before, in a table on disk, so that memory does not grow with the number of threads."""

import hashlib
import sqlite3
from pathlib import Path

MEMORY_KIB = 32 << 10
"""Memory for the table's pages."""


class Seen:
    """A set of digests; a context manager, which removes its file."""

    def __init__(self, path: Path):
        self._path = path
        self._table = sqlite3.connect(path, isolation_level=None)
        # The table is of no use to a later process, so nothing has to reach the disk in order.
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{MEMORY_KIB}"):
            self._table.execute(f"PRAGMA {setting}")
        self._table.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        self._table.execute("BEGIN")

    def has(self, *words: str) -> bool:
        """Whether these words were added before."""
        found = self._table.execute("SELECT 1 FROM seen WHERE digest = ?", (_digest(words),))
        return found.fetchone() is not None

    def add(self, *words: str) -> bool:
        """Adds the words; False if they are there already."""
        inserted = self._table.execute("INSERT OR IGNORE INTO seen VALUES (?)", (_digest(words),))
        return inserted.rowcount == 1

    def __enter__(self) -> "Seen":
        return self

    def __exit__(self, *_: object) -> None:
        self._table.close()
        self._path.unlink(missing_ok=True)


def _digest(words: tuple[str, ...]) -> bytes:
    whole = hashlib.blake2b(digest_size=16)
    for word in words:
        text = word.encode("utf-8", "surrogatepass")
        whole.update(len(text).to_bytes(8) + text)
    return whole.digest()
