"""Long threads in pieces that fit into the context, split between an answer and the next question."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from camelid.base.errors import CamelidError
from camelid.makers.threads import Thread, Turn
from camelid.text.bulk import BulkEncoder
from camelid.text.chat_template import encode_conversation
from camelid.text.conversation import Conversation, Message
from camelid.text.tokenizer import Tokenizer

MARGIN = 4
"""Tokens for each turn within which an estimate is checked by rendering the piece."""
_PROBE = "Yes"


@dataclass(frozen=True)
class Pieces:
    """Splits threads; a piece has at most `context` tokens.

    Its length is estimated as `base`, `turn` for each turn and the tokens of the texts, which a chat template
    exceeds only where tokens at the ends of a text merge with its markup. Pieces near the limit are rendered.
    """

    encoder: BulkEncoder
    context: int
    base: int
    turn: float
    exact: bool

    @classmethod
    def of(cls, tokenizer: Tokenizer, context: int, turn_tokens: int | None = None) -> "Pieces":
        """Pieces by the tokenizer's chat template, or with a fixed number of tokens for each turn."""
        if turn_tokens is not None:
            return cls(BulkEncoder(tokenizer), context, 0, turn_tokens, exact=False)
        if tokenizer.chat_template is None:
            raise CamelidError(
                "the tokenizer has no chat template, which tells the tokens of a turn; give --turn-tokens"
            )
        probe = len(tokenizer.encode(_PROBE, continues=True))
        pair_of_turns = [Turn("user", _PROBE), Turn("assistant", _PROBE)]
        one, two = (_rendered(tokenizer, "", pair_of_turns * count) for count in (1, 2))
        pair = two - one - 2 * probe
        return cls(BulkEncoder(tokenizer), context, one - pair - 2 * probe, pair / 2, exact=True)

    def split(self, thread: Thread) -> tuple[list[Thread], int]:
        """The pieces of a thread, and how many pairs of question and answer are too long for any."""
        texts = [turn.text for turn in thread.turns]
        if thread.system:
            texts.append(thread.system)
        sizes = [len(ids) + self.turn for ids in self.encoder.encode(texts)]
        head = self.base + (sizes.pop() if thread.system else 0)
        pairs = [one + two for one, two in zip(sizes[::2], sizes[1::2], strict=True)]
        parts, start, size, too_long = list[Thread](), 0, head, 0
        for at, pair in enumerate(pairs):
            if start < at and not self._fits(thread, start, at + 1, size + pair):
                parts.append(self._part(thread, start, at))
                start, size = at, head
            if start == at and not self._fits(thread, at, at + 1, head + pair):
                start, too_long = at + 1, too_long + 1
                continue
            size += pair
        if start < len(pairs):
            parts.append(self._part(thread, start, len(pairs)))
        return parts, too_long

    def _fits(self, thread: Thread, start: int, end: int, size: float) -> bool:
        """Whether the pairs from `start` to `end` fit, whose estimated length is `size`."""
        near = self.exact and abs(self.context - size) <= MARGIN * 2 * (end - start)
        if near:
            tokens = _rendered(self.encoder.tokenizer, thread.system, thread.turns[2 * start : 2 * end])
            return tokens <= self.context
        return size <= self.context

    def _part(self, thread: Thread, start: int, end: int) -> Thread:
        name = f"{thread.id or 'thread'}_{2 * start}"
        return replace(thread, id=name, turns=thread.turns[2 * start : 2 * end])


def _rendered(tokenizer: Tokenizer, system: str, turns: Sequence[Turn]) -> int:
    """The tokens of a training row of these turns: the last one rendered is only a target."""
    head = (Message("system", system),) if system else ()
    messages = (Message("user" if turn.role == "user" else "assistant", turn.text) for turn in turns)
    return len(encode_conversation(tokenizer, Conversation((*head, *messages)))[0]) - 1
