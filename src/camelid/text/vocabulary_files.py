"""The vocabulary of a folder without a `tokenizer.json`: SentencePiece's, GPT-2's or llama2.c's files.

GPT-2's and SentencePiece's files do not say which rules go with them, so a `tokenizer_config.json` that names
a class with other rules is rejected: almost correct ids would be worse than an error.
"""

import base64
import json
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from camelid.base.errors import CamelidError, naming
from camelid.base.json import read_table
from camelid.text.byte_alphabet import BYTE_OF_CHARACTER
from camelid.text.charsmap import check_charsmap
from camelid.text.declared_tokens import add_declared, token_text
from camelid.text.sentencepiece import read_bounded, read_sentencepiece
from camelid.text.vocabulary import (
    END_OF_TEXT,
    GPT2,
    QWEN2,
    SPACE,
    Pieces,
    PieceType,
    add_ends,
    add_special_pieces,
    byte_level,
    sentencepiece_bpe,
    sentinels,
)

Found = tuple[tokenizers.Tokenizer, dict[str, Any]]
"""A backend, and the matching settings of a `tokenizer_config.json`."""
Reader = Callable[[Path, Mapping[str, Any]], Found]
PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
SENTENCEPIECE_NAMES = ("tokenizer.model", "spiece.model")
LLAMA2C_NAME = re.compile(r"tok(enizer|\d+)\.bin")
ANY_CLASS = ("PreTrainedTokenizerFast", "TokenizersBackend")
BYTE_LEVEL_CLASSES = {"GPT2Tokenizer": GPT2, "Qwen2Tokenizer": QWEN2} | dict.fromkeys(ANY_CLASS, GPT2)
SENTENCEPIECE_CLASSES = ("LlamaTokenizer", "GemmaTokenizer", "T5Tokenizer", "MT5Tokenizer", *ANY_CLASS)
CHARSMAP = "precompiled_charsmap"
T5_SENTINELS, MOST_SENTINELS = 100, 10_000


def read_vocabulary(folder: Path, config: Mapping[str, Any]) -> Found:
    """The backend of the vocabulary files in `folder`, and its configuration, overridden by `config`.

    Raises `CamelidError` that names the missing, damaged or unsupported file.
    """
    path, read = _find(folder)
    return _read(path, read, config)


def read_tokenizer_json(path: Path) -> tokenizers.Tokenizer:
    """The backend that a `tokenizer.json` describes; raises `CamelidError` if it is damaged."""
    try:
        text = path.read_text(encoding="utf-8")
        if any(part in text for part in (CHARSMAP, "\\u00")):  # a different spelling of ASCII
            json.loads(text, object_hook=_checked)
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise CamelidError(f"{path} cannot be read as a tokenizer: {error}") from error


def read_vocabulary_file(path: Path) -> Found:
    """The backend and configuration of one file: SentencePiece's `.model` or llama2.c's tokenizer."""
    if not path.is_file():
        raise CamelidError(f"there is no file {path}")
    if path.suffix == ".model":
        return _read(path, _sentencepiece, {})
    if LLAMA2C_NAME.fullmatch(path.name):
        return _read(path, _llama2c, {})
    raise CamelidError(
        f"{path} is not a tokenizer: give a .model, a tok*.bin, or a folder that holds a tokenizer"
    )


def _checked(table: dict[str, Any]) -> dict[str, Any]:
    """Checks a table of `tokenizer.json`: the library panics on a damaged charsmap."""
    if CHARSMAP in table or table.get("type") == "Precompiled":
        check_charsmap(base64.b64decode(table[CHARSMAP], validate=True))
    return table


def _read(path: Path, read: Reader, config: Mapping[str, Any]) -> Found:
    folder = path.parent
    with naming(path):
        backend, defaults = read(path, config)
        merged = defaults | {key: value for key, value in config.items() if value is not None}
        # The saved tokenizer.json holds the rules; a specific class would override them.
        merged |= {"tokenizer_class": ANY_CLASS[0], "clean_up_tokenization_spaces": False}
        merged.pop("extra_ids", None)
    add_declared(backend, folder, merged)
    named = {key: token_text(merged[key]) for key in ("bos_token", "eos_token") if key in merged}
    if all(token is None or backend.token_to_id(token) is not None for token in named.values()):
        add_ends(backend, merged | named)
    return backend, merged


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder holds a tokenizer in any supported format."""
    if (folder / "tokenizer.json").is_file():
        return True
    try:
        _find(folder)
    except CamelidError:
        return False
    return True


def _find(folder: Path) -> tuple[Path, Reader]:
    """The file that holds the vocabulary, and its reader."""
    for name in SENTENCEPIECE_NAMES:
        if (folder / name).is_file():
            return folder / name, _sentencepiece
    models, bins = sorted(folder.glob("*.model")), sorted(folder.glob("tok*.bin"))
    for first, second in PAIRS:
        present = [name for name in (first, second) if (folder / name).is_file()]
        if len(present) == 2:
            return folder / first, _byte_level
        # llama.cpp's and other folders have a vocab.json beside a SentencePiece model
        if present and not models:
            missing = second if present == [first] else first
            raise CamelidError(f"{folder} has {present[0]} but no {missing}; a vocabulary needs both")
    bins = [path for path in bins if LLAMA2C_NAME.fullmatch(path.name)]
    for found, read in ((models, _sentencepiece), (bins, _llama2c)):
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise CamelidError(f"{folder} has several vocabularies: {names}; keep only the model's")
        if found:
            return found[0], read
    raise CamelidError(
        f"{folder} has no tokenizer.json; a checkpoint folder needs one, or a tokenizer.model, a "
        "spiece.model, "
        "or vocab.json with merges.txt"
    )


def _sentencepiece(path: Path, config: Mapping[str, Any]) -> Found:
    _class_of(config, SENTENCEPIECE_CLASSES)
    backend, defaults = read_sentencepiece(path)
    if defaults["add_eos_token"] and backend.token_to_id("<extra_id_0>") is None:
        count = config.get("extra_ids", T5_SENTINELS)
        if not isinstance(count, int) or not 0 <= count <= MOST_SENTINELS:
            raise CamelidError(
                f"extra_ids is {count!r}; it must be 0 to {MOST_SENTINELS} (T5 has {T5_SENTINELS})"
            )
        backend.add_special_tokens(sentinels(count))
    return backend, defaults


def _byte_level(path: Path, config: Mapping[str, Any]) -> Found:
    splitter = BYTE_LEVEL_CLASSES[_class_of(config, tuple(BYTE_LEVEL_CLASSES))]
    vocabulary = read_table(path)
    if not all(type(index) is int for index in vocabulary.values()) or sorted(vocabulary.values()) != list(
        range(len(vocabulary))
    ):
        raise CamelidError(f"its ids must be 0 to {len(vocabulary) - 1}, each once")
    if missing := BYTE_OF_CHARACTER.keys() - vocabulary.keys():
        raise CamelidError(
            f"it has no token for {len(missing)} of the 256 bytes (such as {min(missing)!r}), so it "
            "is not a byte-level vocabulary"
        )
    merges_path = path.with_name(dict(PAIRS)[path.name])
    backend = byte_level(vocabulary, _merges(merges_path), splitter)
    if END_OF_TEXT not in vocabulary:
        return backend, {}
    backend.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False, special=True)])
    return backend, {f"{name}_token": END_OF_TEXT for name in ("bos", "eos", "unk")}


def _merges(path: Path) -> list[list[str]]:
    """The pairs, one a line; a first line that begins with `#version` is skipped."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise CamelidError(f"{path.name} is not valid UTF-8: {error}") from error
    merges = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        merges.append(line.rstrip("\r").split(" "))
        if len(merges[-1]) != 2:
            raise CamelidError(f"{path.name}, line {number} is not a pair of tokens: {line[:60]!r}")
    return merges


def _llama2c(path: Path, config: Mapping[str, Any]) -> Found:
    """llama2.c's tokenizer.bin: the maximum length, then the score, length and bytes of each piece."""
    data, position = read_bounded(path), 4
    tokens: list[str] = []
    scores: list[float] = []
    while position < len(data):
        head = data[position : position + 8]
        score, size = struct.unpack("<fi", head) if len(head) == 8 else (0.0, -1)
        position += 8
        if not 0 < size <= len(data) - position:
            raise CamelidError(
                f"truncated or damaged in piece {len(tokens)}, at byte {position} of {len(data)}"
            )
        try:
            tokens.append(data[position : position + size].decode("utf-8"))
        except UnicodeDecodeError as error:
            raise CamelidError(f"piece {len(tokens)} is not valid UTF-8") from error
        scores.append(score)
        position += size
    special = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256))]
    if tokens[: len(special)] != special:
        raise CamelidError(
            "it does not begin with <unk>, <s>, </s> and the 256 bytes: not a llama2.c tokenizer"
        )
    tokens = [token.strip("\n") for token in special] + [token.replace(" ", SPACE) for token in tokens[259:]]
    kinds = [PieceType.UNKNOWN, PieceType.CONTROL, PieceType.CONTROL, *[PieceType.BYTE] * 256]
    kinds += [PieceType.NORMAL] * (len(tokens) - len(kinds))
    backend = sentencepiece_bpe(Pieces(tokens, scores, kinds, unknown=0))
    add_special_pieces(backend, tokens, kinds)
    named = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return backend, {**named, "add_bos_token": True, "add_eos_token": False}


def _class_of(config: Mapping[str, Any], supported: tuple[str, ...]) -> str:
    name = config.get("tokenizer_class") or ANY_CLASS[0]
    plain = name if name in supported else str(name).removesuffix("Fast")
    if plain not in supported:
        allowed = ", ".join(one for one in supported if one not in ANY_CLASS)
        raise CamelidError(
            f"tokenizer_config.json names {name}, which is not supported; supported: {allowed}; or save the "
            "tokenizer as tokenizer.json with the tool that made it"
        )
    return plain
