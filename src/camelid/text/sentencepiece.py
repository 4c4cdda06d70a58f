"""SentencePiece's `.model` files: BPE as in LLaMA, unigram as in T5.

The file is a protocol buffer (SentencePiece's src/sentencepiece_model.proto); this module reads the few parts
of the wire format that it needs. Files are not trusted: every length is checked before use, and nesting is
limited.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers

from camelid.base.errors import CamelidError
from camelid.text.charsmap import check_charsmap
from camelid.text.vocabulary import (
    Pieces,
    PieceType,
    add_special_pieces,
    sentencepiece_bpe,
    sentencepiece_unigram,
)

LARGEST_FILE = 1 << 26
"""Limit in bytes; the largest vocabularies in use take five million."""
UNIGRAM, BPE = 1, 2
MODEL_TYPES = {UNIGRAM: "unigram", BPE: "BPE", 3: "word", 4: "character"}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Value = int | bytes


class Field(NamedTuple):
    """A setting's field number in its message, its wire type, and its default."""

    number: int
    wire: int
    default: Any


PIECE = {"piece": Field(1, BYTES, b""), "score": Field(2, FIXED32, 0), "type": Field(3, VARINT, 1)}
TRAINER = {
    "model_type": Field(3, VARINT, UNIGRAM),
    "treat_whitespace_as_suffix": Field(24, VARINT, 0),
    "byte_fallback": Field(35, VARINT, 0),
    "unk": Field(40, VARINT, 0),
    "bos": Field(41, VARINT, 1),
    "eos": Field(42, VARINT, 2),
    "pad": Field(43, VARINT, -1),
}
NORMALIZER = {
    "charsmap": Field(2, BYTES, b""),
    "add_dummy_prefix": Field(3, VARINT, 1),
    "remove_extra_whitespaces": Field(4, VARINT, 1),
    "escape_whitespaces": Field(5, VARINT, 1),
}


def read_sentencepiece(path: Path) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
    """The backend of a `.model` file, and the matching settings of a `tokenizer_config.json`.

    BPE puts BOS before a text and unigram EOS after it, as LLaMA and T5 do. Raises `CamelidError` if the file
    is damaged or uses SentencePiece features that neither needs.
    """
    pieces, trainer, normalizer = _read_messages(read_bounded(path))
    kind = trainer["model_type"]
    if kind not in (UNIGRAM, BPE):
        name = MODEL_TYPES.get(kind, "unknown")
        raise CamelidError(f"its trainer_spec.model_type is {kind} ({name}); supported: unigram, BPE")
    if trainer["treat_whitespace_as_suffix"] or not normalizer["escape_whitespaces"]:
        raise CamelidError(
            "it writes spaces after words (treat_whitespace_as_suffix) or not at "
            "all; only spaces before words are supported"
        )
    tokens, scores, kinds = _columns(pieces)
    ids = {name: _special(name, trainer[name], kinds) for name in ("bos", "eos", "pad", "unk")}
    if normalizer["charsmap"]:
        check_charsmap(normalizer["charsmap"])
    vocabulary = Pieces(
        tokens,
        scores,
        kinds,
        ids["unk"],
        prefix=bool(normalizer["add_dummy_prefix"]),
        squeeze=bool(normalizer["remove_extra_whitespaces"]),
        charsmap=normalizer["charsmap"],
        byte_fallback=bool(trainer["byte_fallback"]),
    )
    backend = sentencepiece_bpe(vocabulary) if kind == BPE else sentencepiece_unigram(vocabulary)
    add_special_pieces(backend, tokens, kinds)
    config: dict[str, Any] = {
        f"{name}_token": tokens[index] for name, index in ids.items() if index is not None
    }
    config["add_bos_token"] = kind == BPE and ids["bos"] is not None
    config["add_eos_token"] = kind == UNIGRAM and ids["eos"] is not None
    return backend, config


def read_bounded(path: Path) -> bytes:
    """The bytes of a vocabulary file; raises `CamelidError` if it is far larger than any vocabulary."""
    try:
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise CamelidError(f"it has {size:,} bytes; a vocabulary has a few million")
        return path.read_bytes()
    except OSError as error:
        raise CamelidError(f"it cannot be read: {error.strerror}") from error


def _read_messages(data: bytes) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """The pieces, the `trainer_spec` and the `normalizer_spec`."""
    pieces: list[dict[str, Any]] = []
    trainer, normalizer = b"", b""
    for number, wire, value in _fields(data, "the file"):
        if number in (1, 2, 3) and not isinstance(value, bytes):
            raise CamelidError(
                f"field {number} has wire type {wire}, not a message's: not a SentencePiece model"
            )
        if number == 1 and isinstance(value, bytes):
            pieces.append(_message(value, PIECE, f"piece {len(pieces)}"))
        elif number == 2 and isinstance(value, bytes):
            trainer += value  # a message that occurs twice is merged
        elif number == 3 and isinstance(value, bytes):
            normalizer += value
    if not pieces:
        raise CamelidError("it holds no pieces: not a SentencePiece model")
    return (
        pieces,
        _message(trainer, TRAINER, "trainer_spec"),
        _message(normalizer, NORMALIZER, "normalizer_spec"),
    )


def _columns(pieces: list[dict[str, Any]]) -> tuple[list[str], list[float], list[int]]:
    tokens: list[str] = []
    for index, piece in enumerate(pieces):
        try:
            tokens.append(piece["piece"].decode("utf-8"))
        except UnicodeDecodeError as error:
            raise CamelidError(f"piece {index} is not valid UTF-8") from error
        if not tokens[-1]:
            raise CamelidError(f"piece {index} is empty")
        if piece["type"] not in iter(PieceType):
            raise CamelidError(f"piece {index}, {tokens[-1]!r}, has the unknown type {piece['type']}")
        if piece["type"] == PieceType.UNUSED:
            raise CamelidError(
                f"piece {index}, {tokens[-1]!r}, is of type UNUSED, which is not supported: give a "
                "tokenizer.json"
            )
    scores = [struct.unpack("<f", struct.pack("<I", piece["score"]))[0] for piece in pieces]
    return tokens, scores, [piece["type"] for piece in pieces]


def _special(name: str, index: int, kinds: list[int]) -> int | None:
    """The id of a special piece; by default, files name ids even for pieces that they lack."""
    fitting = PieceType.UNKNOWN if name == "unk" else PieceType.CONTROL
    return index if 0 <= index < len(kinds) and kinds[index] == fitting else None


def _message(data: bytes, fields: dict[str, Field], what: str) -> dict[str, Any]:
    """The requested fields of a message (the last value of each); others are skipped."""
    names = {field.number: name for name, field in fields.items()}
    values = {name: field.default for name, field in fields.items()}
    for number, wire, value in _fields(data, what):
        if (name := names.get(number)) is None:
            continue
        if wire != fields[name].wire:
            raise CamelidError(
                f"{name} of {what} has wire type {wire}, not {fields[name].wire}; it is damaged"
            )
        values[name] = value
    return values


def _fields(data: bytes, what: str) -> Iterator[tuple[int, int, Value]]:
    """Number, wire type and value of each field of a message."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position, what)
        number, wire = key >> 3, key & 7
        if number < 1:
            raise CamelidError(f"{what} has a field with number 0, at byte {position}: {_NO_MODEL}")
        if wire == VARINT:
            value, position = _varint(data, position, what)
            yield number, wire, value
            continue
        if wire == BYTES:
            size, position = _varint(data, position, what)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise CamelidError(f"{what} has the wire type {wire}, at byte {position}: {_NO_MODEL}")
        if not 0 <= size <= len(data) - position:
            raise CamelidError(
                f"{what} is truncated, at byte {position} of {len(data)}; fetch the file again"
            )
        raw = data[position : position + size]
        position += size
        yield number, wire, raw if wire == BYTES else int.from_bytes(raw, "little")


_NO_MODEL = "damaged, or not a SentencePiece model"


def _varint(data: bytes, position: int, what: str) -> tuple[int, int]:
    """A varint (7 bits a byte, low bits first, at most ten bytes) as a signed number, and where it ends."""
    value = 0
    for count, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            value &= (1 << 64) - 1
            return value - (1 << 64) if value >> 63 else value, position + count + 1
    raise CamelidError(f"{what} is truncated in a number, at byte {position} of {len(data)}; {_NO_MODEL}")
