"""Token shards: a corpus as memory-mapped `.npy` files, written in one pass with constant memory.

meta.json               tokenizer digest, counts, digest of the content
train-00000.npy ...     the documents' ids end to end, uint16 where the vocabulary fits, without BOS and EOS
train-offsets.npy       start of each document, then the total number of tokens
validation-*.npy        the same for the validation split
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from camelid.base.atomic import atomic_folder
from camelid.base.errors import CamelidError
from camelid.base.json import read_table, write_json
from camelid.data.rows.examples import Example
from camelid.data.rows.holdout import SPLITS, Split, hold_out_documents
from camelid.data.rows.tokenise import encoded
from camelid.text.bulk import Ids, token_type
from camelid.text.tokenizer import Tokenizer

FORMAT = 1
SHARD_TOKENS = 1 << 28


def write_shards(
    documents: Iterable[tuple[str, str]],
    tokenizer: Tokenizer,
    folder: str | os.PathLike[str],
    *,
    validation_fraction: float = 0.01,
    workers: int = 1,
    on: str | None = None,
    shard_tokens: int = SHARD_TOKENS,
    progress: Callable[[int], None] = lambda written: None,
) -> dict[str, Any]:
    """Tokenises documents (text, location) into a new `folder` and returns its `meta.json`.

    The order is kept and does not depend on `workers`. Several workers are separate processes, so a script
    that uses more than one needs the usual `if __name__ == "__main__"`. `on`: a Ray cluster that tokenises
    instead. `progress` is called with the bytes of text written so far. The folder appears only when it is
    complete. Raises `CamelidError` on an empty document or corpus, on invalid text, and if `folder` is not
    empty.
    """
    if tokenizer.eos_id is None:
        raise CamelidError("the tokenizer has no EOS token to end documents; set an eos_token")
    pieces = hold_out_documents(_not_empty(documents), validation_fraction)
    with _fresh_folder(Path(folder)) as fresh:
        writers = {split: _SplitWriter(fresh, split, tokenizer.vocab_size, shard_tokens) for split in SPLITS}
        written = 0
        for (text, split, _), ids in encoded(pieces, tokenizer, workers, on):
            size = len(text.encode())
            writers[split].add(ids, size)
            written += size
            progress(written)
        counts = {split: writer.close() for split, writer in writers.items()}
        if not counts["train"]["documents"]:
            raise CamelidError("the corpus contains no documents")
        meta = {
            "format": FORMAT,
            "tokenizer": tokenizer.digest,
            "vocab_size": tokenizer.vocab_size,
            "bos_id": tokenizer.bos_id,
            "eos_id": tokenizer.eos_id,
            "validation_fraction": validation_fraction,
            "splits": {split: table for split, table in counts.items() if table["documents"]},
        }
        write_json(fresh / "meta.json", meta)
    return meta


class TokenShards:
    """One split of a folder of token shards, memory-mapped.

    Raises `CamelidError` if the folder is missing, incomplete or damaged, or lacks the split.
    """

    def __init__(self, folder: str | os.PathLike[str], split: Split = "train"):
        self.folder, self.split = Path(folder), split
        meta_path = self.folder / "meta.json"
        if not meta_path.is_file():
            raise CamelidError(f"{self.folder} has no meta.json, so it is not a folder of token shards")
        self.meta: dict[str, Any] = read_table(meta_path)
        if self.meta.get("format") != FORMAT:
            raise CamelidError(
                f"{meta_path}: format is {self.meta.get('format')!r}, this version reads {FORMAT}"
            )
        if split not in self.meta["splits"]:
            raise CamelidError(f"{self.folder} has no {split} split, only {sorted(self.meta['splits'])}")
        counts = self.meta["splits"][split]
        self.token_count: int = counts["tokens"]
        self.byte_count: int = counts["bytes"]
        self.digest: str = counts["digest"]
        self.bos_id: int | None = self.meta["bos_id"]
        self.eos_id: int = self.meta["eos_id"]
        self.pad_id = self.eos_id
        self.lead = int(self.bos_id is not None)
        """Number of tokens before each document's text."""
        self._offsets = self._open(f"{split}-offsets.npy", counts["documents"] + 1)
        self._firsts = np.cumsum([0, *counts["shards"]])
        self._shards = [
            self._open(
                _shard_name(split, number),
                int(self._offsets[self._firsts[number + 1]] - self._offsets[self._firsts[number]]),
            )
            for number in range(len(counts["shards"]))
        ]

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each document, without BOS and EOS."""
        return np.diff(self._offsets)

    def document(self, index: int) -> NDArray[np.unsignedinteger[Any]]:
        """The ids of one document, without BOS and EOS: a view of the file."""
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        shard = int(np.searchsorted(self._firsts, index, side="right")) - 1
        base = self._offsets[self._firsts[shard]]
        view: NDArray[np.unsignedinteger[Any]] = self._shards[shard][
            self._offsets[index] - base : self._offsets[index + 1] - base
        ]
        return view

    def piece(self, index: int, start: int, stop: int) -> Example:
        """Tokens [start, stop) of a document, BOS included, with the true next tokens as targets."""
        ids = self.document(index)
        tokens = ids[max(start - self.lead, 0) : stop - self.lead]
        targets = ids[start + 1 - self.lead : stop + 1 - self.lead]
        if start < self.lead:
            tokens = np.concatenate([np.array([self.bos_id], ids.dtype), tokens])
        if len(targets) < stop - start:
            targets = np.concatenate([targets, np.array([self.eos_id], ids.dtype)])
        return Example(tokens, targets, np.ones(stop - start, dtype=np.float32))

    def _open(self, name: str, length: int) -> NDArray[Any]:
        path = self.folder / name
        try:
            # A plain array over the map: slicing an np.memmap costs ten times as much.
            array: NDArray[Any] = np.load(path, mmap_mode="r").view(np.ndarray)
        except (OSError, ValueError) as error:
            raise CamelidError(
                f"{path} is missing or damaged ({error}); tokenise the corpus again"
            ) from error
        if array.shape != (length,):
            raise CamelidError(
                f"{path} has {array.shape} numbers, meta.json says {length}; tokenise the corpus again"
            )
        return array


class _ArrayFile:
    """A growing one-dimensional `.npy` file: its header is rewritten in place at the end."""

    def __init__(self, path: Path, dtype: type[np.generic]):
        self._dtype = np.dtype(dtype)
        self._length = 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, array: NDArray[Any]) -> None:
        self._file.write(array.astype(self._dtype, copy=False).tobytes())
        self._length += len(array)

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _write_header(self) -> None:
        header = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self._length,)}
        npy.write_array_header_1_0(self._file, header)


class _SplitWriter:
    """Writer of the shards, offsets and counts of one split."""

    def __init__(self, folder: Path, split: Split, vocab_size: int, shard_tokens: int):
        self._folder, self._split = folder, split
        self._dtype, self._shard_tokens = token_type(vocab_size), shard_tokens
        self._content = hashlib.blake2b(digest_size=16)
        self._documents: list[int] = []  # of each shard
        self._tokens = self._bytes = self._in_shard = 0
        self._shard: _ArrayFile | None = None
        self._offsets: _ArrayFile | None = None

    def add(self, ids: Ids, size: int) -> None:
        if self._offsets is None:
            self._offsets = _ArrayFile(self._folder / f"{self._split}-offsets.npy", np.int64)
            self._offsets.append(np.zeros(1))
        if self._shard is None:
            self._shard = _ArrayFile(
                self._folder / _shard_name(self._split, len(self._documents)), self._dtype
            )
            self._documents.append(0)
            self._in_shard = 0
        self._shard.append(ids)
        self._tokens += len(ids)
        self._bytes += size
        self._in_shard += len(ids)
        self._documents[-1] += 1
        self._offsets.append(np.array([self._tokens]))
        self._content.update(len(ids).to_bytes(8) + ids.tobytes())
        if self._in_shard >= self._shard_tokens:
            self._shard.close()
            self._shard = None

    def close(self) -> dict[str, Any]:
        for file in (self._shard, self._offsets):
            if file is not None:
                file.close()
        return {
            "documents": sum(self._documents),
            "tokens": self._tokens,
            "bytes": self._bytes,
            "shards": self._documents,
            "digest": self._content.hexdigest(),
        }


def _shard_name(split: Split, number: int) -> str:
    return f"{split}-{number:05}.npy"


def _not_empty(documents: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for text, where in documents:
        if not text:
            raise CamelidError(f"{where}: the document is empty; remove it")
        yield text, where


@contextmanager
def _fresh_folder(folder: Path) -> Iterator[Path]:
    """`atomic_folder`, whose write errors name the folder (errors from shards do not name a file)."""
    try:
        with atomic_folder(folder) as fresh:
            yield fresh
    except OSError as error:
        raise CamelidError(f"{folder} could not be written: {error.strerror or error}") from error
