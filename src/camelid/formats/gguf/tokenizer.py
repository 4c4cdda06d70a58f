"""Tokenizers in GGUF files: llama.cpp's `gpt2` (byte-level BPE) and `llama` (SentencePiece BPE).

The ids equal those of the tokenizer that the file was converted from. llama.cpp's src/llama-vocab.cpp maps
names to pre-tokenizers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers

from camelid.base.errors import CamelidError, naming, shortened
from camelid.text.tokenizer import Tokenizer
from camelid.text.vocabulary import (
    DIGITS,
    GPT2,
    LLAMA3,
    QWEN2,
    Pieces,
    PieceType,
    add_ends,
    add_named,
    add_special_pieces,
    byte_level,
    ids_of,
    sentencepiece_bpe,
)

Metadata = Mapping[str, Any]
OTHERWISE = "give the folder of the model's own tokenizer with --tokenizer"
NO_ID = 0xFFFFFFFF
"""-1 as an unsigned number: files use it for a missing token."""
NAMES = ("bos", "eos", "eot", "eom", "unknown", "padding")
END_NAMES = (
    *("</s>", "<eos>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<end_of_turn>", "<turn|>", "<end_of_utterance>"),
    *("<|im_end|>", "<|end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>", "<|end_of_text|>"),
    "<｜end▁of▁sentence｜>",
)
"""Tokens that end an answer because of their text, and so are special: llama.cpp's `special_eog_ids`
(src/llama-vocab.cpp), without those of unsupported vocabularies and of fill-in-the-middle."""
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
    "deepseek-r1-qwen": QWEN2,
}
"""Every supported value of `tokenizer.ggml.pre`."""


def tokenizer_from_gguf(metadata: Metadata) -> Tokenizer:
    """The tokenizer in the metadata of a GGUF file, with its special tokens and chat template.

    Raises `CamelidError` that names the missing, damaged or unsupported key.
    """
    tokens = _tokens(metadata)
    given = "tokenizer.ggml.token_type" in metadata
    kinds = _numbers(metadata, "token_type", len(tokens)) if given else [PieceType.NORMAL] * len(tokens)
    match _key(metadata, "model"):
        case "gpt2":
            backend, add_bos = _byte_level(metadata, tokens)
        case "llama":
            backend, add_bos = _sentencepiece(metadata, tokens, kinds), True
        case other:
            raise CamelidError(
                f"tokenizer.ggml.model is {shortened(other)}; supported: gpt2, llama; {OTHERWISE}"
            )
    ids = {name: _special(metadata, name, tokens) for name in NAMES}
    ends = {index for index, token in enumerate(tokens) if token in END_NAMES}
    ends |= {index for name in ("eos", "eot", "eom") if (index := ids[name]) is not None}
    add_special_pieces(backend, tokens, kinds)
    add_named(backend, [tokens[index] for index in sorted(ends)])
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": _flag(metadata, "add_bos_token", add_bos and ids["bos"] is not None),
        "add_eos_token": _flag(metadata, "add_eos_token", False),
        "clean_up_tokenization_spaces": False,
    }
    for key, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        if (index := ids[name]) is not None:
            config[f"{key}_token"] = tokens[index]
    add_ends(backend, config)
    template = metadata.get("tokenizer.chat_template")
    if not isinstance(template, str | None):
        raise CamelidError("tokenizer.chat_template is not a string")
    tokenizer = Tokenizer(backend, config, chat_template=template)
    return Tokenizer(backend, config, chat_template=template, stop_ids=ends | _chat_ends(tokenizer))


def _chat_ends(tokenizer: Tokenizer) -> set[int]:
    """The terminator of a turn; none if the template rejects even a simple turn."""
    try:
        terminator = tokenizer.chat_template.terminator if tokenizer.chat_template else None
    except CamelidError:
        return set()
    return set() if terminator is None else {tokenizer.control_ids[terminator]}


def _byte_level(metadata: Metadata, tokens: list[str]) -> tuple[tokenizers.Tokenizer, bool]:
    name = metadata.get("tokenizer.ggml.pre", "missing")
    if not isinstance(name, str) or name not in SPLITTERS:
        raise CamelidError(
            f"tokenizer.ggml.pre is {shortened(name)}, so how text is split into words is unknown; "
            "supported: "
            f"{', '.join(SPLITTERS)}; {OTHERWISE}"
        )
    splitter = SPLITTERS[name]
    merges = [tuple(merge.split(" ")) for merge in _strings(metadata, "merges")]
    bad = next((index for index, merge in enumerate(merges) if len(merge) != 2), None)
    if bad is not None:
        raise CamelidError(
            f"tokenizer.ggml.merges[{bad}] is not a pair of tokens: {shortened(' '.join(merges[bad]))}"
        )
    with naming("tokenizer.ggml"):
        return byte_level(ids_of(tokens), merges, splitter), splitter.add_bos


def _sentencepiece(metadata: Metadata, tokens: list[str], kinds: Sequence[float]) -> tokenizers.Tokenizer:
    pieces = Pieces(
        tokens,
        _numbers(metadata, "scores", len(tokens)),
        kinds,
        _special(metadata, "unknown", tokens),
        prefix=_flag(metadata, "add_space_prefix", True),
    )
    with naming("tokenizer.ggml"):
        return sentencepiece_bpe(pieces)


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
        raise CamelidError(
            f"tokenizer.ggml.{name}_token_id is {shortened(index)}; there are {len(tokens)} tokens"
        )
    return index


def _flag(metadata: Metadata, name: str, default: bool) -> bool:
    return bool(metadata.get(f"tokenizer.ggml.{name}", default))


def _strings(metadata: Metadata, name: str) -> list[str]:
    value = _key(metadata, name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise CamelidError(f"tokenizer.ggml.{name} is not a list of strings")
    return value


def _numbers(metadata: Metadata, name: str, count: int) -> list[float]:
    value = _key(metadata, name)
    if (
        not isinstance(value, list)
        or len(value) != count
        or not all(isinstance(item, int | float) for item in value)
    ):
        raise CamelidError(f"tokenizer.ggml.{name} must be a list of {count} numbers, one for each token")
    return value


def _key(metadata: Metadata, name: str) -> Any:
    if (value := metadata.get(f"tokenizer.ggml.{name}")) is None:
        raise CamelidError(f"the file has no tokenizer.ggml.{name}; {OTHERWISE}")
    return value
