"""A tokenizer as the metadata of a GGUF file: the other way of `gguf_tokenizer`.

What llama.cpp has no name for is refused; nothing is approximated.
"""

import base64
import json
from collections.abc import Sequence
from typing import Any

from camelid.errors import CamelidError
from camelid.text.gguf_tokenizer import SPLITTERS
from camelid.text.tokenizer import Tokenizer
from camelid.text.vocabulary import Pieces, PieceType, WordSplitter, byte_level, sentencepiece_bpe

Table = dict[str, Any]
SPELLINGS = ("Precompiled", "Prepend", "Replace", "Strip")
CUTS = ("Metaspace", "WhitespaceSplit", "Split")
LOWEST = -10000.0
"""The score of what no text becomes."""


def vocabulary_metadata(tokenizer: Tokenizer, size: int) -> Table:
    """The keys `tokenizer.*` for a model of `size` embeddings; ids without a token are filled up as llama.cpp does.

    Raises `CamelidError` where GGUF has no kind of vocabulary for the tokenizer's rules.
    """
    tokens, kinds = _columns(tokenizer, size)
    keys = {**_model(tokenizer, tokens, kinds), "tokens": tokens, "token_type": [int(kind) for kind in kinds]}
    ids = {
        "bos": tokenizer.bos_id,
        "eos": tokenizer.eos_id,
        "unknown": tokenizer.unk_id,
        "padding": tokenizer.pad_id,
        **dict(zip(("eot", "eom"), sorted(tokenizer.stop_ids - {tokenizer.eos_id}), strict=False)),
    }
    keys |= {f"{name}_token_id": index for name, index in ids.items() if index is not None}
    bare, full = tokenizer.encode("a"), tokenizer.encode("a", special_tokens=True)
    keys["add_bos_token"] = len(full) > len(bare) and full[0] == tokenizer.bos_id
    keys["add_eos_token"] = len(full) > len(bare) and full[-1] == tokenizer.eos_id
    metadata = {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
    if tokenizer.chat_template is not None:
        metadata["tokenizer.chat_template"] = tokenizer.chat_template.source
    return metadata


def _columns(tokenizer: Tokenizer, size: int) -> tuple[list[str], list[PieceType]]:
    tokens, kinds = [f"[PAD{index}]" for index in range(size)], [PieceType.UNUSED] * size
    added = tokenizer.backend.get_added_tokens_decoder()
    for token, index in tokenizer.backend.get_vocab(with_added_tokens=True).items():
        tokens[index], kinds[index] = token, PieceType.NORMAL
        if (
            tokenizer.has_byte_fallback
            and len(token) == 6
            and token.startswith("<0x")
            and token.endswith(">")
        ):
            kinds[index] = PieceType.BYTE
        if index in added:
            kinds[index] = PieceType.CONTROL if added[index].special else PieceType.USER_DEFINED
        if index == tokenizer.unk_id and not tokenizer.is_byte_level:
            kinds[index] = PieceType.UNKNOWN
    return tokens, kinds


def _model(tokenizer: Tokenizer, tokens: list[str], kinds: list[PieceType]) -> Table:
    model = tokenizer.description["model"]
    if model["type"] == "BPE" and tokenizer.is_byte_level:
        return {
            "model": "gpt2",
            "pre": _splitter(tokenizer),
            "merges": [" ".join(pair) for pair in _merges(model)],
        }
    if not tokenizer.marks_spaces or model["type"] not in ("BPE", "Unigram"):
        raise CamelidError(f"GGUF has no kind of vocabulary for this tokenizer (model {model['type']})")
    spelling = _spelling(tokenizer)
    if model["type"] == "Unigram":
        known = dict(enumerate(score for _, score in model["vocab"]))
        scores = [float(known.get(index, LOWEST)) for index in range(len(tokens))]
        return {"model": "t5", "pre": "default", "scores": scores, **spelling}
    if spelling.get("precompiled_charsmap") or spelling["remove_extra_whitespaces"]:
        raise CamelidError(
            "GGUF's SentencePiece BPE neither replaces characters nor drops spaces, as this tokenizer does"
        )
    scores = _scores(_merges(model), tokens)
    _check_merges(tokenizer, tokens, kinds, scores)
    return {
        "model": "llama",
        "pre": "default",
        "scores": scores,
        "add_space_prefix": spelling["add_space_prefix"],
    }


def _merges(model: Table) -> list[Sequence[str]]:
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]


def _splitter(tokenizer: Tokenizer) -> str:
    """The name of the rules that cut a text before merging."""
    wanted = _rules(tokenizer.description)
    for name, splitter in SPLITTERS.items():
        if _rules(_description(splitter)) == wanted:
            return name
    raise CamelidError(
        f"GGUF has no supported name for the rules that cut this tokenizer's texts ({wanted}); "
        f"supported: {', '.join(SPLITTERS)}"
    )


def _description(splitter: WordSplitter) -> Table:
    description: Table = json.loads(byte_level({}, [], splitter).to_str())
    return description


def _rules(description: Table) -> list[Any]:
    """What of a byte-level tokenizer bears on ids: merging, normal form, cuts; `trim_offsets` and the like do not."""
    kept = ("type", "pattern", "behavior", "invert", "individual_digits", "add_prefix_space", "use_regex")
    steps = [*_steps(description["normalizer"]), *_steps(description["pre_tokenizer"])]
    return [
        bool(description["model"].get("ignore_merges")),
        *({key: step[key] for key in kept if key in step} for step in steps),
    ]


def _steps(part: Table | None) -> list[Table]:
    """The steps of a normaliser or pre-tokenizer, one after the other."""
    if part is None:
        return []
    inside = part.get("normalizers") or part.get("pretokenizers")
    return [part] if inside is None else [step for each in inside for step in _steps(each)]


def _spelling(tokenizer: Tokenizer) -> Table:
    """How text is spelt before its pieces are found."""
    steps, cuts = _steps(tokenizer.description["normalizer"]), _steps(tokenizer.description["pre_tokenizer"])
    known = [step["type"] in SPELLINGS for step in steps]
    # Cuts that keep to SentencePiece's pieces only mark their places; others cut a text for good.
    known += [cut["type"] in CUTS and cut.get("behavior") not in ("Isolated", "Removed") for cut in cuts]
    if not all(known):
        names = [step["type"] for step in (*steps, *cuts)]
        raise CamelidError(f"GGUF has no kind of vocabulary for this tokenizer's steps: {', '.join(names)}")
    metaspaces = [cut for cut in cuts if cut["type"] == "Metaspace"]
    prefix = any(step["type"] == "Prepend" for step in steps)
    squeeze = any("{2,}" in str(step.get("pattern")) for step in steps)
    spelling: Table = {
        "add_space_prefix": prefix or any(cut.get("prepend_scheme") != "never" for cut in metaspaces),
        "remove_extra_whitespaces": squeeze or any(cut["type"] == "WhitespaceSplit" for cut in cuts),
    }
    for step in steps:
        if step["type"] == "Precompiled":
            spelling["precompiled_charsmap"] = base64.b64decode(step["precompiled_charsmap"])
    return spelling


def _scores(merges: list[Sequence[str]], tokens: list[str]) -> list[float]:
    """Minus the place of the first merge that makes a piece; what no merge makes is as good as the worst."""
    place: dict[str, int] = {}
    for left, right in merges:
        place.setdefault(left + right, len(place))
    return [-float(place.get(token, len(place))) for token in tokens]


def _check_merges(
    tokenizer: Tokenizer, tokens: list[str], kinds: list[PieceType], scores: list[float]
) -> None:
    """Raises where joining the best-scored pair, which is what GGUF says, is not what the tokenizer's merges say."""
    again = json.loads(sentencepiece_bpe(Pieces(tokens, scores, kinds, tokenizer.unk_id)).to_str())
    ours, theirs = (
        [tuple(pair) for pair in _merges(each["model"])] for each in (again, tokenizer.description)
    )
    if ours != theirs:
        raise CamelidError(
            "its merges do not follow from scores of its pieces, which is all that GGUF keeps of them"
        )
