"""The tokenizer inside a GGUF file: llama.cpp's `gpt2` (byte-level BPE) and `llama` (SentencePiece BPE) vocabularies.

The ids equal those of the tokenizer that the file was converted from; how llama.cpp's names map to
pre-tokenizers is in its src/llama-vocab.cpp.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from camelid.errors import CamelidError
from camelid.text.tokenizer import Tokenizer

Metadata = Mapping[str, Any]
NO_ID = 0xFFFFFFFF
"""-1 as an unsigned number: how files say that there is no such token."""
SPACE = "▁"
LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


class TokenType(IntEnum):
    """`enum llama_token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class WordSplitter:
    """How a byte-level vocabulary cuts text before merging, and what its users do by default."""

    digits: bool = False
    """Whether every digit stands alone before GPT-2's own expression."""
    expression: str | None = None
    """An expression in place of GPT-2's."""
    normal_form: bool = False
    """Whether text is brought to Unicode's form C first."""
    whole_words: bool = False
    """Whether a word of the vocabulary is taken whole, without merging."""
    add_bos: bool = False
    """Whether BOS is added where the file does not say."""


GPT2 = WordSplitter()
DIGITS = WordSplitter(digits=True)
LLAMA3 = WordSplitter(
    expression=rf"{CONTRACTIONS}|{LETTERS}|\p{{N}}{{1,3}}|{REST}", whole_words=True, add_bos=True
)
QWEN2 = WordSplitter(expression=rf"{CONTRACTIONS}|{LETTERS}|\p{{N}}|{REST}", normal_form=True)
SPLITTERS = {
    "gpt-2": GPT2,
    "smollm": DIGITS,
    "starcoder": DIGITS,
    "refact": DIGITS,
    "codeshell": DIGITS,
    "llama-bpe": LLAMA3,
    "llama3": LLAMA3,
    "llama-v3": LLAMA3,
    "qwen2": QWEN2,
}
"""Every supported value of `tokenizer.ggml.pre`."""


def tokenizer_from_gguf(metadata: Metadata) -> Tokenizer:
    """The tokenizer that the metadata of a GGUF file describes, with its special tokens and chat template.

    Raises `CamelidError` that names the key which is missing, damaged or of an unsupported kind.
    """
    tokens = _tokens(metadata)
    given = "tokenizer.ggml.token_type" in metadata
    kinds = _numbers(metadata, "token_type", len(tokens)) if given else [TokenType.NORMAL] * len(tokens)
    match _key(metadata, "model"):
        case "gpt2":
            backend, add_bos = _byte_level(metadata, tokens)
        case "llama":
            backend, add_bos = _sentencepiece(metadata, tokens, kinds), True
        case other:
            raise CamelidError(f"tokenizer.ggml.model is {other!r}; supported: gpt2, llama")
    for token, kind in zip(tokens, kinds, strict=True):
        if kind in (TokenType.CONTROL, TokenType.UNKNOWN):
            backend.add_special_tokens([AddedToken(token, normalized=False, special=True)])
        elif kind == TokenType.USER_DEFINED:
            backend.add_tokens([AddedToken(token, normalized=False)])
    ids = {name: _special(metadata, name, tokens) for name in ("bos", "eos", "unknown", "padding")}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": _flag(metadata, "add_bos_token", add_bos and ids["bos"] is not None),
        "add_eos_token": _flag(metadata, "add_eos_token", False),
        "clean_up_tokenization_spaces": False,
    }
    for key, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        if (index := ids[name]) is not None:
            config[f"{key}_token"] = tokens[index]
    _add_ends(backend, config, ids)
    template = metadata.get("tokenizer.chat_template")
    if not isinstance(template, str | None):
        raise CamelidError("tokenizer.chat_template is no text")
    stops = [_special(metadata, name, tokens) for name in ("eos", "eot", "eom")]
    return Tokenizer(
        backend,
        config,
        chat_template=template,
        stop_ids=dict.fromkeys(stop for stop in stops if stop is not None),
    )


def _byte_level(metadata: Metadata, tokens: list[str]) -> tuple[tokenizers.Tokenizer, bool]:
    name = _key(metadata, "pre")
    if not isinstance(name, str) or name not in SPLITTERS:
        raise CamelidError(f"tokenizer.ggml.pre is {name!r}; supported: {', '.join(SPLITTERS)}")
    splitter = SPLITTERS[name]
    merges = [tuple(merge.split(" ")) for merge in _strings(metadata, "merges")]
    bad = next((index for index, merge in enumerate(merges) if len(merge) != 2), None)
    if bad is not None:
        raise CamelidError(f"tokenizer.ggml.merges[{bad}] is no pair of tokens: {' '.join(merges[bad])!r}")
    backend = _bpe(tokens, merges, ignore_merges=splitter.whole_words)
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
    return backend, splitter.add_bos


def _sentencepiece(metadata: Metadata, tokens: list[str], kinds: Sequence[float]) -> tokenizers.Tokenizer:
    """SentencePiece's BPE joins the pair that makes the best-scored piece: merges ranked by that score."""
    scores = _numbers(metadata, "scores", len(tokens))
    pieces = {token: index for index, token in enumerate(tokens) if kinds[index] == TokenType.NORMAL}
    merges: list[tuple[str, str]] = []
    for piece in sorted(pieces, key=lambda piece: -scores[pieces[piece]]):
        cuts = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        pairs = [(left, right) for left, right in cuts if left in pieces and right in pieces]
        merges += sorted(pairs, key=lambda pair: (pieces[pair[0]], pieces[pair[1]]))
    unknown = _special(metadata, "unknown", tokens)
    backend = _bpe(
        tokens,
        merges,
        byte_fallback=True,
        fuse_unk=True,
        unk_token=None if unknown is None else tokens[unknown],
    )
    prefix = _flag(metadata, "add_space_prefix", True)
    replace = normalizers.Replace(" ", SPACE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replace]) if prefix else replace
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return backend


def _bpe(tokens: list[str], merges: list[Any], **options: Any) -> tokenizers.Tokenizer:
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        twice = next(token for index, token in enumerate(tokens) if vocabulary[token] != index)
        raise CamelidError(f"tokenizer.ggml.tokens holds {twice!r} twice; a vocabulary needs distinct tokens")
    try:
        return tokenizers.Tokenizer(models.BPE(vocabulary, merges, **options))
    except Exception as error:  # the library raises bare Exception
        raise CamelidError(f"tokenizer.ggml.merges does not fit tokenizer.ggml.tokens: {error}") from error


def _add_ends(
    backend: tokenizers.Tokenizer, config: Mapping[str, Any], ids: Mapping[str, int | None]
) -> None:
    ends = {name: config[f"{name}_token"] for name in ("bos", "eos") if config[f"add_{name}_token"]}
    if ends:
        template = [ends.get("bos"), "$A", ends.get("eos")]
        backend.post_processor = processors.TemplateProcessing(
            single=" ".join(part for part in template if part),
            special_tokens=[(token, ids[name]) for name, token in ends.items()],
        )


def _tokens(metadata: Metadata) -> list[str]:
    tokens = _strings(metadata, "tokens")
    if not tokens:
        raise CamelidError("tokenizer.ggml.tokens is empty")
    return tokens


def _special(metadata: Metadata, name: str, tokens: list[str]) -> int | None:
    index = metadata.get(f"tokenizer.ggml.{name}_token_id")
    if index is None or index == NO_ID:
        return None
    if not isinstance(index, int) or not 0 <= index < len(tokens):
        raise CamelidError(f"tokenizer.ggml.{name}_token_id is {index!r}; there are {len(tokens)} tokens")
    return index


def _flag(metadata: Metadata, name: str, default: bool) -> bool:
    return bool(metadata.get(f"tokenizer.ggml.{name}", default))


def _strings(metadata: Metadata, name: str) -> list[str]:
    value = _key(metadata, name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise CamelidError(f"tokenizer.ggml.{name} is no list of strings")
    return value


def _numbers(metadata: Metadata, name: str, count: int) -> list[float]:
    value = _key(metadata, name)
    if (
        not isinstance(value, list)
        or len(value) != count
        or not all(isinstance(item, int | float) for item in value)
    ):
        raise CamelidError(f"tokenizer.ggml.{name} is no list of {count} numbers, one for each token")
    return value


def _key(metadata: Metadata, name: str) -> Any:
    if (value := metadata.get(f"tokenizer.ggml.{name}")) is None:
        raise CamelidError(f"the file has no tokenizer.ggml.{name}; convert the model with a newer llama.cpp")
    return value
