"""How well a model predicts a text: perplexity a token, and bits a byte, which compares across vocabularies."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from camelid.errors import WrongCall
from camelid.infer.blocks import CachedSequence
from camelid.infer.decoder import Extension
from camelid.infer.engine import Engine

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


def perplexity(engine: Engine, documents: Iterable[str]) -> Perplexity:
    """The likelihood of documents of any length, each by itself.

    Every token is predicted once, in windows of the context's length that overlap by half, so that past the first
    window it has at least half a context before it. A document whose tokenizer adds no BOS counts from its second
    token. Raises `WrongCall` where nothing is left to predict.
    """
    nats, tokens, size = 0.0, 0, 0
    for text in documents:
        ids = engine.encode(text) if text else ()
        unseen = "" if ids[:1] == (engine.tokenizer.bos_id,) else engine.tokenizer.decode(ids[:1])
        if len(ids) > 1:
            nats += _nats(engine, ids)
            tokens += len(ids) - 1
            size += len(text.encode()) - len(unseen.encode())
    if not tokens:
        raise WrongCall("the text is empty or a single token: there is nothing to predict")
    return Perplexity(nats, tokens, size)


@torch.inference_mode()
def _nats(engine: Engine, ids: tuple[int, ...]) -> float:
    window = min(engine.context_length, len(ids))
    nats, known, start = 0.0, 1, 0
    while known < len(ids):
        end = min(start + window, len(ids))
        sequence = CachedSequence(engine.decoder.pool)
        for begin in range(start, end - 1, PIECE):
            stop = min(begin + PIECE, end - 1)
            new = max(begin, known - 1)
            wanted = max(0, stop - new)
            logits = engine.decoder.extend([Extension(sequence, ids[begin:stop], wanted)])
            if wanted:
                targets = torch.tensor(ids[new + 1 : stop + 1], device=logits.device)
                nats += float(cross_entropy(logits, targets, reduction="sum"))
        sequence.release()
        known, start = end, end - window // 2
    return nats
