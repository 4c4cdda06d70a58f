"""Requests that a scheduler has given blocks to, and what a step does for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from camelid.engine.blocks import CachedSequence
from camelid.engine.decoder import Extension, Predictions, check_finite
from camelid.engine.generation import Generation
from camelid.engine.scoring import MOST_SCORED, Scoring
from camelid.engine.sharing import shares, whole_shares
from camelid.engine.speculative import Proposal

NO_PROPOSAL = Proposal((), None)
Request = Generation | Scoring


@dataclass(eq=False)
class Running:
    """A request that has blocks. `rest`: the tokens to read next, of prompt, completion or continuation."""

    request: Request
    sequence: CachedSequence
    rest: list[int]
    followers: list[Request] = field(default_factory=list)
    """Others with the same prompt, which take its blocks over as soon as it is read."""
    scores: bool = False
    """Whether a continuation is being read, each of whose tokens predicts the next."""

    def __post_init__(self) -> None:
        if not self.request.tokens:
            self.request.cached = len(self.sequence.tokens)

    @property
    def requests(self) -> list[Request]:
        """Its own and its followers."""
        return [self.request, *self.followers]

    @property
    def reads(self) -> bool:
        """Whether the prompt is still being read."""
        if isinstance(self.request, Scoring):
            return not self.scores
        return len(self.rest) > 1 or not self.request.tokens

    @property
    def answers(self) -> bool:
        """Whether it generates a token at every step."""
        return isinstance(self.request, Generation) and not self.reads

    @property
    def key(self) -> tuple[int, ...]:
        return read_by(self.request)


Part = tuple[Running, Extension, Proposal]
"""What a step computes for one generation."""


NewText = tuple[Request, str]
"""A request, and its new text: empty if it failed, or was scored to its end."""


class RowSummary(NamedTuple):
    """What `Predictions` says of one row of logits."""

    greedy: int
    highest: float
    log_total: float

    @classmethod
    def of(cls, predictions: Predictions) -> "list[RowSummary]":
        """Of every row."""
        return [cls(*row) for row in zip(*(column.tolist() for column in predictions[1:]), strict=True)]

    @staticmethod
    def finite_greedy(rows: "Sequence[RowSummary]") -> Iterator[int]:
        """The most probable token of each row; raises `CamelidError` at one whose logits are not finite."""
        for row in rows:
            check_finite([row.log_total])
            yield row.greedy


Rows = tuple[Predictions, slice, Sequence[RowSummary]]
"""Those of a request among a step's predictions."""


def pieces(
    readers: Sequence[Running], sources: Sequence[int], left: int
) -> Iterator[tuple[Running, Sequence[int], int]]:
    """The next tokens of each reader in a step of `left` tokens, and after how many it needs logits.

    sources: tokens of an encoder's text that a reader must have computed first, all at once.
    """
    if any(sources):
        taken = whole_shares(sources, left)
        readers = [readers[index] for index in taken]
        left = max(len(readers), left - sum(sources[index] for index in taken))
    rows = MOST_SCORED
    for running, count in zip(readers, shares([len(each.rest) for each in readers], left), strict=True):
        piece = running.rest[: min(count, rows) if running.scores else count]
        wanted = int(len(piece) == len(running.rest))
        if running.scores:
            wanted = len(piece)
            rows -= wanted
        if piece:
            yield running, piece, wanted


def read_by(request: Request) -> tuple[int, ...]:
    """The tokens that a request reads first: its prompt, and its completion so far."""
    return (*request.prompt, *request.tokens)
