"""How well a model predicts a text: perplexity a token, and bits a byte, which compares across
vocabularies."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from camelid.base.errors import WrongCall
from camelid.engine.blocks import CachedSequence
from camelid.engine.conventions import PUBLISHED
from camelid.engine.decoder import check_finite
from camelid.engine.engine import Engine
from camelid.recipes.evaluate import Convention

PIECE = 512
"""Positions whose logits exist at once."""


@dataclass(frozen=True)
class Perplexity:
    """The negative log-likelihood of text in nats, and the tokens and bytes that it is spread over."""

    nats: float
    tokens: int
    bytes: int

    @property
    def perplexity(self) -> float:
        """exp(nats / tokens): depends on the vocabulary."""
        return math.exp(self.nats / self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """nats / (ln 2 · bytes): does not."""
        return self.nats / (math.log(2) * self.bytes)


def perplexity(
    engine: Engine, documents: Iterable[str], convention: Convention = "overlapping"
) -> Perplexity:
    """The likelihood of text, in the windows of a convention; a tokenizer's BOS is never predicted.

    overlapping: documents of any length, each by itself. Every token is predicted once, in windows of the
    context's length that overlap by half, so that past the first window it has at least half a context before
    it. A document whose tokenizer adds no BOS counts from its second token. papers: documents joined by an
    empty line and encoded as one, windows of 2,048 tokens (or the context, where that is shorter) end to end,
    each from its second token; a tail that fills no window is left out. llama.cpp: the same with windows of
    512, each with BOS in place of its first token where the tokenizer adds one, of which the tokens after the
    first of the second half are scored. Bytes are those of the tokens that are scored, to within a character
    at the ends of a published convention's window. Raises `WrongCall` where nothing is left to predict, and
    for models with an encoder.
    """
    if isinstance(documents, str):
        raise WrongCall("one text was given where documents are needed: write [text]")
    if engine.model.encoder is not None:
        raise WrongCall(
            "a model with an encoder says answers to texts, not texts: it has no perplexity of one"
        )
    if convention in PUBLISHED:
        return _published(engine, "\n\n".join(documents), convention)
    nats, tokens, size = 0.0, 0, 0
    for text in documents:
        ids = engine.encode(text) if text else ()
        unseen = "" if ids[:1] == (engine.tokenizer.bos_id,) else engine.tokenizer.decode(ids[:1])
        if len(ids) > 1:
            nats += _overlapping(engine, ids)
            tokens += len(ids) - 1
            size += len(text.encode()) - len(unseen.encode())
    if not tokens:
        raise WrongCall("the text is empty or a single token: there is nothing to predict")
    return Perplexity(nats, tokens, size)


def _published(engine: Engine, text: str, convention: Convention) -> Perplexity:
    windows, tokenizer = PUBLISHED[convention], engine.tokenizer
    ids = engine.encode(text) if text else ()
    length = min(windows.length, engine.context_length)
    if len(ids) < length:
        raise WrongCall(
            f"the text has {len(ids):,} tokens, and the windows of the convention {convention!r} {length:,}: "
            "give more text, or take overlapping ones"
        )
    opening = ids[:1] if windows.second_half and ids[0] == tokenizer.bos_id else ()
    first = windows.first(length)
    nats, size, count = 0.0, 0, len(ids) // length
    for begin in range(0, count * length, length):
        window = (*opening, *ids[begin + len(opening) : begin + length])
        nats += _nats(engine, window, first)
        size += len(tokenizer.decode(window).encode()) - len(tokenizer.decode(window[:first]).encode())
    return Perplexity(nats, count * (length - first), size)


def _overlapping(engine: Engine, ids: tuple[int, ...]) -> float:
    window = min(engine.context_length, len(ids))
    nats, known, start = 0.0, 1, 0
    while known < len(ids):
        end = min(start + window, len(ids))
        nats += _nats(engine, ids[start:end], known - start)
        known, start = end, end - window // 2
    return nats


def _nats(engine: Engine, ids: tuple[int, ...], first: int) -> float:
    """Of the tokens from `first` on, each given all before it."""
    return engine.worker.call(lambda: _computed(engine, ids, first))


def _computed(engine: Engine, ids: tuple[int, ...], first: int) -> float:
    nats, sequence = 0.0, CachedSequence(engine.decoder.pool)
    try:
        for begin in range(0, len(ids) - 1, PIECE):
            stop = min(begin + PIECE, len(ids) - 1)
            new = max(begin, first - 1)
            wanted = max(0, stop - new)
            predictions = engine.extend(sequence, ids[begin:stop], wanted)
            if wanted:
                check_finite(predictions.log_total.tolist())
                logprobs, _ = predictions.logprobs(ids[new + 1 : stop + 1])
                nats -= float(logprobs.double().sum())
    finally:
        sequence.release()
    return nats
