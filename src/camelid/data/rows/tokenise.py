"""Documents to token ids in several processes, in order, with only a few batches in memory."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import tokenizers

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.workers import in_order
from camelid.data.rows.holdout import Piece
from camelid.text.bulk import BulkEncoder, Ids
from camelid.text.tokenizer import Tokenizer

BATCH_CHARACTERS = 1 << 20


def encoded(
    pieces: Iterable[Piece], tokenizer: Tokenizer, workers: int = 1, on: str | None = None
) -> Iterator[tuple[Piece, Ids]]:
    """Each piece with its ids, in order, for any number of workers; on: the Ray cluster that does the work.

    Several workers are separate processes, which end with this one, with at most two batches per worker in
    flight. Raises `CamelidError` with the location of a text that is not valid Unicode, and if a worker is
    killed.
    """
    if workers < 1:
        raise WrongCall(f"workers is {workers}; it must be at least 1")
    arguments = _parts(tokenizer)
    for batch, ids in in_order(_batched(pieces), _start, arguments, workers, "--data.workers", on):
        yield from zip(batch, ids, strict=True)


def _start(
    vocabulary: str, config: dict[str, Any], template: str | None
) -> Callable[[list[Piece]], list[Ids]]:
    backend = tokenizers.Tokenizer.from_str(vocabulary)
    return partial(_encode, BulkEncoder(Tokenizer(backend, config, chat_template=template)))


def _parts(tokenizer: Tokenizer) -> tuple[str, dict[str, Any], str | None]:
    """All that decides a tokenizer's ids; the template decides which added tokens are never text."""
    template = None if tokenizer.chat_template is None else tokenizer.chat_template.source
    return tokenizer.backend.to_str(), tokenizer.config, template


def _batched(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    characters = 0
    for piece in pieces:
        batch.append(piece)
        characters += len(piece[0])
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _encode(encoder: BulkEncoder, batch: list[Piece]) -> list[Ids]:
    try:
        return encoder.encode([text for text, _, _ in batch])
    except CamelidError:
        for text, _, where in batch:  # again, to find which
            try:
                encoder.encode([text])
            except CamelidError as error:
                raise CamelidError(f"{where}: {error}") from error
        raise
