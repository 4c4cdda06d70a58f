"""Documents to token ids in several processes, in order, with only a few batches in memory."""

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import tokenizers

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.parent import end_with_parent
from camelid.data.rows.holdout import Piece
from camelid.text.bulk import BulkEncoder, Ids
from camelid.text.tokenizer import Tokenizer

BATCH_CHARACTERS = 1 << 20


def encoded(pieces: Iterable[Piece], tokenizer: Tokenizer, workers: int = 1) -> Iterator[tuple[Piece, Ids]]:
    """Each piece with its ids, in order, for any number of workers.

    Several workers are separate processes, which end with this one, with at most two batches per worker in
    flight. Raises `CamelidError` with the location of a text that is not valid Unicode, and if a worker is
    killed.
    """
    if workers < 1:
        raise WrongCall(f"workers is {workers}; it must be at least 1")
    if workers == 1:
        encoder = BulkEncoder(tokenizer)
        for batch in _batched(pieces):
            yield from zip(batch, _encode(encoder, batch), strict=True)
        return
    shared = (os.getpid(), *_parts(tokenizer))
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), _Worker.start, shared) as pool:
            waiting: deque[tuple[list[Piece], Future[list[Ids]]]] = deque()
            for batch in _batched(pieces):
                waiting.append((batch, pool.submit(_Worker.work, batch)))
                if len(waiting) == 2 * workers:
                    yield from _finished(waiting)
            while waiting:
                yield from _finished(waiting)
    except BrokenProcessPool as error:
        raise CamelidError(
            f"one of {workers} tokenising processes was killed, perhaps for lack of memory; "
            "give fewer --data.workers"
        ) from error


class _Worker:
    """State of a worker process: the encoder and its cache of words."""

    encoder: BulkEncoder

    @classmethod
    def start(cls, parent: int, vocabulary: str, config: dict[str, Any], template: str | None) -> None:
        end_with_parent(parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the parent ends these
        backend = tokenizers.Tokenizer.from_str(vocabulary)
        cls.encoder = BulkEncoder(Tokenizer(backend, config, chat_template=template))

    @classmethod
    def work(cls, batch: list[Piece]) -> list[Ids]:
        return _encode(cls.encoder, batch)


def _parts(tokenizer: Tokenizer) -> tuple[str, dict[str, Any], str | None]:
    """All that decides a tokenizer's ids; the template decides which added tokens are never text."""
    template = None if tokenizer.chat_template is None else tokenizer.chat_template.source
    return tokenizer.backend.to_str(), tokenizer.config, template


def _finished(waiting: deque[tuple[list[Piece], Future[list[Ids]]]]) -> Iterator[tuple[Piece, Ids]]:
    batch, future = waiting.popleft()
    yield from zip(batch, future.result(), strict=True)


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
