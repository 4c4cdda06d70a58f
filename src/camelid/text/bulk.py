"""Encode large corpora: the same ids as `Tokenizer.encode`, several times faster, with a cache of words.

Byte-level BPE works on one pre-token (about a word) at a time, and natural text repeats its words. For the
pre-tokenizers listed below, text is split at unambiguous pre-token boundaries and each distinct piece is
encoded once. Characters that Python's Unicode tables and the tokenizer's could classify differently are
passed to the tokenizer itself, in pieces that end where a space follows a visible character. A property test
checks that the ids equal those of `Tokenizer.encode`.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.text.byte_alphabet import spell
from camelid.text.tokenizer import Tokenizer

Ids = NDArray[np.unsignedinteger[Any]]

_LETTERS = "A-Za-zÀ-ÖØ-öø-ÿ"
_MARKS = r"!-/:-@\[-`{-~¡£§«°»¿‐-‧"
_SPACES = r" \t\n\r"
_KNOWN_NEXT = f"(?![^{_LETTERS}0-9{_MARKS}{_SPACES}])"
_WORD = f" ?[{_LETTERS}]++{_KNOWN_NEXT}"
_CONTRACTION = "'(?:[sdmt]|ll|ve|re)"
_PUNCTUATION = f" ?[{_MARKS}]++{_KNOWN_NEXT}"
_REMAINDER = r"[\s\S]+?(?:(?<=\S)(?= )|\Z)"


def _pieces(number: str, after_spaces: str) -> str:
    """GPT-2's pre-tokens made of known characters only (the last space of a run goes to the next word)."""
    spaces = rf"(?=[{_SPACES}]++{_KNOWN_NEXT})(?:[{_SPACES}]+(?![^{after_spaces}])|[\t\n\r])"
    return "|".join((_WORD, _CONTRACTION, _PUNCTUATION, number, spaces))


_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_DIGITS = {"type": "Digits", "individual_digits": True}
_PRE_TOKENIZERS = [
    (_BYTE_LEVEL, _pieces(f" ?[0-9]++{_KNOWN_NEXT}", _SPACES)),
    (
        {"type": "Sequence", "pretokenizers": [_DIGITS, _BYTE_LEVEL]},
        _pieces(f"[0-9]{_KNOWN_NEXT}", f"{_SPACES}0-9"),
    ),
]
_LONGEST_REMEMBERED = 64
_MOST_REMEMBERED = 1 << 19


class BulkEncoder:
    """Encodes texts to arrays of the smallest integer type that holds the vocabulary."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.dtype: type[np.uint16 | np.uint32] = token_type(tokenizer.vocab_size)
        pieces = _known_pieces(tokenizer)
        self._words = None if pieces is None else _Words(tokenizer, self.dtype, pieces)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text, without special tokens; raises `CamelidError` on a lone surrogate."""
        if self._words is None:
            return [np.array(ids, dtype=self.dtype) for ids in self.tokenizer.encode_batch(texts)]
        return [np.frombuffer(self._words.encode(text), dtype=self.dtype) for text in texts]


class _Words(dict[str, bytes]):
    """Cache: the ids of each piece encoded so far, as bytes."""

    def __init__(self, tokenizer: Tokenizer, dtype: type[np.uint16 | np.uint32], pieces: str):
        self._tokenizer = tokenizer
        self._dtype = dtype
        self._single = re.compile(pieces)
        self._cut = re.compile(f"{pieces}|{_REMAINDER}").findall

    def encode(self, text: str) -> bytes:
        if len(self) > _MOST_REMEMBERED:
            self.clear()
        return b"".join(map(self.__getitem__, self._cut(text)))

    def __missing__(self, piece: str) -> bytes:
        if self._single.fullmatch(piece):
            ids = [token.id for token in self._tokenizer.backend.model.tokenize(spell(piece))]
        else:
            ids = self._tokenizer.encode(piece)
        found = np.array(ids, dtype=self._dtype).tobytes()
        if len(piece) <= _LONGEST_REMEMBERED:
            self[piece] = found
        return found


def token_type(vocab_size: int) -> type[np.uint16 | np.uint32]:
    """The smallest unsigned type for ids below `vocab_size`."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


def _known_pieces(tokenizer: Tokenizer) -> str | None:
    description = tokenizer.description
    model, rules = description["model"], json.loads(json.dumps(description["pre_tokenizer"]))
    plain = (
        model["type"] == "BPE"
        and not model.get("dropout")
        and not model.get("continuing_subword_prefix")
        and not model.get("end_of_word_suffix")
        and description["normalizer"] is None
        and all(token["special"] for token in description["added_tokens"])
    )
    for layer in (rules or {}).get("pretokenizers", [rules or {}]):
        layer.pop("trim_offsets", None)  # concerns offsets only
    return next((pieces for shape, pieces in _PRE_TOKENIZERS if plain and rules == shape), None)
