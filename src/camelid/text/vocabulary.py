"""Vocabularies as backends of the `tokenizers` library: byte-level BPE, and SentencePiece's BPE and unigram.

The readers (`sentencepiece`, `vocabulary_files`, `formats.gguf.tokenizer`) parse a file; this module turns
the result into merges, normalisers and decoders. Errors name the bad list; the reader adds the file.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from camelid.base.errors import CamelidError

END_OF_TEXT = "<|endoftext|>"
SPACE = "▁"
LONGEST_PIECE = 512
"""Limit in characters of a piece; trainers stop at 16, and finding merges is quadratic in the length."""
LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


class PieceType(IntEnum):
    """SentencePiece's `SentencePiece.Type`, and llama.cpp's `enum llama_token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class WordSplitter:
    """How a byte-level vocabulary splits text before merging, and its default for BOS."""

    digits: bool = False
    """Whether digits are split off one by one before GPT-2's regular expression applies."""
    expression: str | None = None
    """A regular expression that replaces GPT-2's."""
    normal_form: bool = False
    """Whether text is normalised to NFC first."""
    whole_words: bool = False
    """Whether a word that is in the vocabulary skips merging (`ignore_merges`)."""
    add_bos: bool = False
    """Whether BOS is added if the file does not specify it."""


GPT2 = WordSplitter()
DIGITS = WordSplitter(digits=True)
LLAMA3 = WordSplitter(
    expression=rf"{CONTRACTIONS}|{LETTERS}|\p{{N}}{{1,3}}|{REST}", whole_words=True, add_bos=True
)
QWEN2 = WordSplitter(expression=rf"{CONTRACTIONS}|{LETTERS}|\p{{N}}|{REST}", normal_form=True)


@dataclass(frozen=True)
class Pieces:
    """SentencePiece's vocabulary: the pieces by id, and how text is normalised before the search."""

    tokens: Sequence[str]
    scores: Sequence[float]
    kinds: Sequence[float]
    unknown: int | None
    prefix: bool = True
    """Whether a space is put before each text (`add_dummy_prefix`)."""
    squeeze: bool = False
    """Whether spaces at the ends and repeated spaces are removed (`remove_extra_whitespaces`)."""
    charsmap: bytes = b""
    """The compiled table of character replacements, checked (see `charsmap`)."""
    byte_fallback: bool = True


def ids_of(tokens: Sequence[str]) -> dict[str, int]:
    """The id of each token; raises `CamelidError` on duplicates."""
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        twice = next(token for index, token in enumerate(tokens) if vocabulary[token] != index)
        raise CamelidError(f"the list of tokens holds {twice!r} twice; tokens must be distinct")
    return vocabulary


def byte_level(
    vocabulary: dict[str, int], merges: Sequence[Sequence[str]], splitter: WordSplitter
) -> tokenizers.Tokenizer:
    """Byte-level BPE (Radford et al. 2019, section 2.2), with words split by `splitter`."""
    backend = _bpe(vocabulary, merges, ignore_merges=splitter.whole_words)
    if splitter.normal_form:
        backend.normalizer = normalizers.NFC()
    steps: list[Any] = []
    if splitter.digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    if splitter.expression is not None:
        steps.append(pre_tokenizers.Split(Regex(splitter.expression), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splitter.expression is None))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    return backend


def sentencepiece_bpe(pieces: Pieces) -> tokenizers.Tokenizer:
    """SentencePiece's BPE joins the pair whose piece has the best score: merges are ranked by that score."""
    _check(pieces)
    vocabulary = ids_of(pieces.tokens)
    normal = {token: index for token, index in vocabulary.items() if pieces.kinds[index] == PieceType.NORMAL}
    merges: list[tuple[str, str]] = []
    for piece in sorted(normal, key=lambda piece: -pieces.scores[normal[piece]]):
        cuts = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        pairs = [(left, right) for left, right in cuts if left in normal and right in normal]
        merges += sorted(pairs, key=lambda pair: (normal[pair[0]], normal[pair[1]]))
    unknown = None if pieces.unknown is None else pieces.tokens[pieces.unknown]
    backend = _bpe(vocabulary, merges, byte_fallback=pieces.byte_fallback, fuse_unk=True, unk_token=unknown)
    _spell(backend, pieces)
    return backend


def sentencepiece_unigram(pieces: Pieces) -> tokenizers.Tokenizer:
    """SentencePiece's unigram: the most likely segmentation (Kudo 2018, arXiv 1804.10959, section 3.2)."""
    _check(pieces)
    vocabulary = ids_of(pieces.tokens)
    if pieces.unknown is None:
        raise CamelidError("the unigram vocabulary has no UNKNOWN piece, which it needs")
    # Control and byte pieces spelled out in a text stay text: splitting inside keeps the library from
    # matching them.
    reserved = [token for token in pieces.tokens if _is_reserved(pieces.kinds[vocabulary[token]])]
    normal = [index for index in vocabulary.values() if not _is_reserved(pieces.kinds[index])]
    lowest = min((pieces.scores[index] for index in normal), default=0.0)
    scores = [
        lowest if _is_reserved(kind) else score
        for kind, score in zip(pieces.kinds, pieces.scores, strict=True)
    ]
    backend = tokenizers.Tokenizer(
        models.Unigram(
            list(zip(pieces.tokens, scores, strict=True)), pieces.unknown, byte_fallback=pieces.byte_fallback
        )
    )
    cuts = [f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in reserved if len(token) > 1]
    steps: list[Any] = [pre_tokenizers.Split(Regex("|".join(cuts)), "merged_with_previous")] if cuts else []
    if not any(SPACE in pieces.tokens[index][1:] for index in normal):
        # No piece crosses a word's start, so words can be looked up (and cached) one by one.
        steps.append(pre_tokenizers.Split(SPACE, "merged_with_next"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    _spell(backend, pieces)
    return backend


def add_special_pieces(backend: tokenizers.Tokenizer, tokens: Sequence[str], kinds: Sequence[float]) -> None:
    """Declares the control tokens to the backend, and the tokens that are matched first."""
    # One call for each kind: every call iterates over all tokens added before.
    special = (PieceType.CONTROL, PieceType.UNKNOWN)
    pairs = list(zip(tokens, kinds, strict=True))
    backend.add_special_tokens([_special(token) for token, kind in pairs if kind in special])
    own = [token for token, kind in pairs if kind == PieceType.USER_DEFINED]
    backend.add_tokens([AddedToken(token, normalized=False) for token in own])


def add_named(backend: tokenizers.Tokenizer, names: Iterable[str]) -> None:
    """Makes the tokens named in a configuration special, as transformers does."""
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    backend.add_special_tokens([_special(name) for name in dict.fromkeys(names) if name not in special])


def add_ends(backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> None:
    """Makes the backend add the BOS and EOS that a `tokenizer_config.json` asks for."""
    ends = {
        name: config[f"{name}_token"]
        for name in ("bos", "eos")
        if config.get(f"add_{name}_token") and config.get(f"{name}_token") is not None
    }
    if ends:
        template = [ends.get("bos"), "$A", ends.get("eos")]
        backend.post_processor = processors.TemplateProcessing(
            single=" ".join(part for part in template if part),
            special_tokens=[(token, backend.token_to_id(token)) for token in dict.fromkeys(ends.values())],
        )


def sentinels(count: int) -> list[AddedToken]:
    """T5's `<extra_id_k>` in the order of their ids: <extra_id_0> has the highest id (Raffel et al. 2020)."""
    names: Iterable[str] = (f"<extra_id_{number}>" for number in reversed(range(count)))
    return [_special(name) for name in names]


def _bpe(vocabulary: dict[str, int], merges: Sequence[Sequence[str]], **options: Any) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer(
            models.BPE(vocabulary, [(left, right) for left, right in merges], **options)
        )
    except Exception as error:  # the library raises bare Exception
        raise CamelidError(f"the list of merges does not fit the list of tokens: {error}") from error


def _check(pieces: Pieces) -> None:
    for index, (token, score) in enumerate(zip(pieces.tokens, pieces.scores, strict=True)):
        if len(token) > LONGEST_PIECE:
            raise CamelidError(f"piece {index} has {len(token)} characters; at most {LONGEST_PIECE} are read")
        if not math.isfinite(score):
            raise CamelidError(f"piece {index}, {token!r}, has the score {score}, which is not finite")


def _special(token: str) -> AddedToken:
    return AddedToken(token, normalized=False, special=True)


def _is_reserved(kind: float) -> bool:
    return kind not in (PieceType.NORMAL, PieceType.USER_DEFINED)


def _spell(backend: tokenizers.Tokenizer, pieces: Pieces) -> None:
    """SentencePiece's normalisation (src/normalizer.cc) and the matching decoder."""
    spelling: list[Any] = []
    if pieces.charsmap:
        spelling.append(normalizers.Precompiled(pieces.charsmap))
    if pieces.squeeze:
        spelling += [normalizers.Replace(Regex(r"\A +"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if pieces.prefix:
        spelling.append(normalizers.Prepend(SPACE))
    spelling.append(normalizers.Replace(" ", SPACE))
    if pieces.squeeze:
        spelling.append(normalizers.Replace(Regex(rf"{SPACE}+\z"), ""))
    backend.normalizer = normalizers.Sequence(spelling)
    steps: list[Any] = [decoders.Replace(SPACE, " ")]
    if pieces.byte_fallback:
        steps.append(decoders.ByteFallback())
    steps.append(decoders.Fuse())
    if pieces.prefix or pieces.squeeze:
        steps.append(decoders.Strip(" ", 1, 0))
    backend.decoder = decoders.Sequence(steps)
