"""Incremental decoding: ids to bytes and text, one id at a time."""

import re

from camelid.base.errors import CamelidError
from camelid.text.byte_alphabet import BYTE_OF_CHARACTER
from camelid.text.tokenizer import Tokenizer
from camelid.text.vocabulary import SPACE

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class StreamDecoder:
    """Decodes ids as they arrive: never half a character; the pieces add up to `decode` of all ids.

    Text is held back while its last character is incomplete. With byte fallback it is held back until a run
    of byte tokens ends, because one invalid byte changes how the whole run decodes.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = True):
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._decoded: list[int] = []  # ids of the last text returned: context for the next
        self._held: list[int] = []

    def push(self, index: int) -> str:
        """The text that `index` completes; empty while a character is incomplete."""
        self._held.append(index)
        new = self._unsaid()
        if not new or new.endswith(REPLACEMENT) or self._inside_byte_run():
            return ""
        self._decoded, self._held = self._held, []
        return new

    @property
    def held(self) -> str:
        """The text held back, decoded as if no more ids followed."""
        return self._unsaid() if self._held else ""

    def finish(self) -> str:
        """The rest of the text, once no more ids follow."""
        new = self._unsaid()
        self._decoded, self._held = [], []
        return new

    def _unsaid(self) -> str:
        before = self._tokenizer.decode(self._decoded, self._skip)
        return self._tokenizer.decode(self._decoded + self._held, self._skip)[len(before) :]

    def _inside_byte_run(self) -> bool:
        """Whether the last text id is a byte token; a skipped special token does not end a run."""
        if not self._tokenizer.has_byte_fallback:
            return False
        tokens = (self._tokenizer.backend.id_to_token(index) or "" for index in reversed(self._held))
        skipped = self._tokenizer.special_ids if self._skip else ()
        last = next((token for token in tokens if token not in skipped), "")
        return bool(_BYTE_TOKEN.fullmatch(last))


def token_bytes(tokenizer: Tokenizer, index: int) -> bytes:
    """The bytes of one id, even if they are only part of a character."""
    token = tokenizer.backend.id_to_token(index)
    if token is None:
        raise CamelidError(f"id {index} is not in the vocabulary of {tokenizer.vocab_size} tokens")
    if token in tokenizer.special_ids:
        return token.encode()
    if tokenizer.is_byte_level and BYTE_OF_CHARACTER.keys() >= set(token):
        return bytes(BYTE_OF_CHARACTER[character] for character in token)
    if byte := _BYTE_TOKEN.fullmatch(token):
        return bytes([int(byte[1], 16)])
    return (token.replace(SPACE, " ") if tokenizer.marks_spaces else token).encode()
