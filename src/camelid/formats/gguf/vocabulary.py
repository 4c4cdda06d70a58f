"""Writes a tokenizer as the metadata of a GGUF file: the inverse of `formats.gguf.tokenizer`.

Rules that llama.cpp has no name for are rejected. `vocabulary_notes` lists what llama.cpp does differently.
"""

import json
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import tokenizers

from camelid.base.errors import CamelidError
from camelid.formats.gguf.spelling import spelling_of, steps_of
from camelid.formats.gguf.tokenizer import SPLITTERS
from camelid.text.chat_template import encode_conversation
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import Tokenizer
from camelid.text.vocabulary import Pieces, PieceType, WordSplitter, byte_level, sentencepiece_bpe

Table = dict[str, Any]
STOPS = ("eos", "eot", "eom")
"""The keys of tokens that end a generation."""
LOWEST = -10000.0
"""The score of pieces that encoding never yields."""


def vocabulary_metadata(tokenizer: Tokenizer, size: int, *, talks: bool = False) -> Table:
    """The keys `tokenizer.*` for a model of `size` embeddings; ids without a token get llama.cpp's padding.

    talks: the model was last trained on conversations. GGUF has one BOS setting; if it cannot match both, it
    follows conversations. Raises `CamelidError` if no GGUF vocabulary type has the tokenizer's rules.
    """
    tokens, kinds = _columns(tokenizer, size)
    keys = {**_model(tokenizer, tokens, kinds), "tokens": tokens, "token_type": [int(kind) for kind in kinds]}
    add_bos, add_eos = added_ends(tokenizer)
    ids = {"unknown": tokenizer.unk_id, "padding": tokenizer.pad_id, **_ends(tokenizer, add_eos)}
    keys |= {f"{name}_token_id": index for name, index in ids.items() if index is not None}
    keys["add_bos_token"] = add_bos and not (talks and texts_alone_begin(tokenizer))
    keys["add_eos_token"] = add_eos
    metadata = {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
    if tokenizer.chat_template is not None:
        metadata["tokenizer.chat_template"] = tokenizer.chat_template.source
    return metadata


def vocabulary_notes(tokenizer: Tokenizer, *, talks: bool = False) -> list[str]:
    """Unavoidable differences between llama.cpp and this tokenizer, in words."""
    notes = []
    if texts_alone_begin(tokenizer):
        begun, other = ("conversations", "true for texts") if talks else ("texts", "false for conversations")
        notes.append(
            f"training puts {tokenizer.named_tokens['bos_token']} before texts but not before "
            "conversations; GGUF has one "
            f"setting for both, here that for {begun}; to change it: llama-server --override-kv "
            f"tokenizer.ggml.add_bos_token=bool:{other}"
        )
    cuts = [] if tokenizer.is_byte_level else steps_of(tokenizer.description["pre_tokenizer"])
    if any(cut["type"] == "Metaspace" and cut["prepend_scheme"] != "never" for cut in cuts):
        notes.append("llama.cpp adds one more space to a text that begins with a space")
    return notes


def added_ends(tokenizer: Tokenizer) -> tuple[bool, bool]:
    """Whether texts get BOS and EOS; raises `CamelidError` if they get anything else."""
    bare, full = tokenizer.encode("a"), tokenizer.encode("a", special_tokens=True)
    for add_bos in (False, True):
        for add_eos in (False, True):
            head, tail = [tokenizer.bos_id] * add_bos, [tokenizer.eos_id] * add_eos
            if full == [*head, *bare, *tail]:
                return add_bos, add_eos
    raise CamelidError(
        f"it adds other tokens around texts than its bos_token and eos_token, which GGUF cannot express: "
        f"'a' becomes {[tokenizer.backend.id_to_token(index) for index in full]}"
    )


def texts_alone_begin(tokenizer: Tokenizer) -> bool:
    """Whether texts begin with BOS and conversations do not."""
    if tokenizer.chat_template is None or not added_ends(tokenizer)[0]:
        return False
    return encode_conversation(tokenizer, Conversation.of(("a", "b")))[0][:1] != [tokenizer.bos_id]


def _ends(tokenizer: Tokenizer, add_eos: bool) -> dict[str, int]:
    """BOS and stops by GGUF's names; llama.cpp would use its default ids for a missing BOS or EOS."""
    stops = sorted(tokenizer.stop_ids, key=lambda index: (index != tokenizer.eos_id, index))
    names = [str(tokenizer.backend.id_to_token(index)) for index in stops]
    if not stops:
        raise CamelidError(
            "it has no stop token, and llama.cpp would choose one itself; set an eos_token in "
            "tokenizer_config.json or an eos_token_id in generation_config.json"
        )
    if len(stops) > len(STOPS):
        raise CamelidError(
            f"{len(stops)} tokens end a generation ({', '.join(names)}), but GGUF has keys for only "
            f"{len(STOPS)}; keep "
            "fewer in the eos_token_id of generation_config.json"
        )
    bos = stops[0] if tokenizer.bos_id is None else tokenizer.bos_id
    template = "" if tokenizer.chat_template is None else tokenizer.chat_template.source
    for name, own, written, added in (
        ("bos_token", tokenizer.bos_id, bos, False),
        ("eos_token", tokenizer.eos_id, stops[0], add_eos),
    ):
        if own != written and (added or re.search(rf"\b{name}\b", template)):
            raise CamelidError(
                f"its {name} is {tokenizer.named_tokens.get(name)}, which its texts or its chat "
                "template use, but llama.cpp "
                f"would use {tokenizer.backend.id_to_token(written)}: GGUF cannot express an EOS "
                "that is not a stop, "
                "or a missing BOS"
            )
    return {"bos": bos, **dict(zip(STOPS, stops, strict=False))}


def _columns(tokenizer: Tokenizer, size: int) -> tuple[list[str], list[PieceType]]:
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=True)
    tokens, kinds = [_filler(index, vocabulary) for index in range(size)], [PieceType.UNUSED] * size
    added = tokenizer.backend.get_added_tokens_decoder()
    for token, index in vocabulary.items():
        tokens[index], kinds[index] = token, PieceType.NORMAL
        if (
            tokenizer.has_byte_fallback
            and len(token) == 6
            and token.startswith("<0x")
            and token.endswith(">")
        ):
            kinds[index] = PieceType.BYTE
        if index in added:
            _check_added(added[index], tokenizer)
            kinds[index] = PieceType.CONTROL if added[index].special else PieceType.USER_DEFINED
        if index == tokenizer.unk_id and not tokenizer.is_byte_level:
            kinds[index] = PieceType.UNKNOWN
    return tokens, kinds


def _filler(index: int, taken: Table) -> str:
    name = f"[PAD{index}]"
    while name in taken:
        name = f"[{name}]"
    return name


def _check_added(token: tokenizers.AddedToken, tokenizer: Tokenizer) -> None:
    """Raises if a token strips white space, matches whole words only, or matches normalised text."""
    flags = [flag for flag in ("lstrip", "rstrip", "single_word") if getattr(token, flag)]
    if token.normalized and not token.special and tokenizer.description["normalizer"] is not None:
        flags.append("normalized")
    if flags:
        raise CamelidError(
            f"its added token {token.content!r} has {' and '.join(flags)}, which GGUF cannot express"
        )


def _model(tokenizer: Tokenizer, tokens: list[str], kinds: list[PieceType]) -> Table:
    model = tokenizer.description["model"]
    if model["type"] == "BPE" and tokenizer.is_byte_level:
        return {
            "model": "gpt2",
            "pre": _splitter(tokenizer),
            "merges": [" ".join(pair) for pair in _merges(model)],
        }
    if not tokenizer.marks_spaces or model["type"] not in ("BPE", "Unigram"):
        raise CamelidError(f"GGUF has no vocabulary type for this tokenizer (model {model['type']})")
    spelling = spelling_of(tokenizer, tokens, kinds)
    if model["type"] == "Unigram":
        known = dict(enumerate(score for _, score in model["vocab"]))
        scores = [float(known.get(index, LOWEST)) for index in range(len(tokens))]
        return {"model": "t5", "pre": "default", "scores": scores, **spelling}
    if spelling.get("precompiled_charsmap") or spelling["remove_extra_whitespaces"]:
        raise CamelidError(
            "this tokenizer replaces characters or removes spaces, which GGUF's SentencePiece BPE cannot"
        )
    if not tokenizer.has_byte_fallback:
        raise CamelidError("GGUF's SentencePiece BPE needs byte fallback, which this tokenizer lacks")
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
    """GGUF's name of the rules that split a text before merging."""
    wanted = _rules(tokenizer.description)
    for name, splitter in SPLITTERS.items():
        if _rules(_description(splitter)) == wanted:
            return name
    raise CamelidError(
        f"GGUF has no supported name for this tokenizer's pre-tokenizer ({wanted}); "
        f"supported: {', '.join(SPLITTERS)}"
    )


def _description(splitter: WordSplitter) -> Table:
    description: Table = json.loads(byte_level({}, [], splitter).to_str())
    return description


def _rules(description: Table) -> list[Any]:
    """The rules of a byte-level tokenizer that affect ids: merging, normalisation, splitting."""
    kept = ("type", "pattern", "behavior", "invert", "individual_digits", "add_prefix_space", "use_regex")
    steps = [*steps_of(description["normalizer"]), *steps_of(description["pre_tokenizer"])]
    return [
        bool(description["model"].get("ignore_merges")),
        *({key: step[key] for key in kept if key in step} for step in steps),
    ]


def _scores(merges: list[Sequence[str]], tokens: list[str]) -> list[float]:
    """Scores from merges: minus the rank of the piece; pieces that no merge makes get the lowest.

    Pieces whose merges are interleaved share a rank: they had one score, and transformers sorts such merges
    by length.
    """
    last = {left + right: number for number, (left, right) in enumerate(merges)}
    places: dict[str, int] = {}
    place, end = -1, -1
    for number, (left, right) in enumerate(merges):
        place += number > end
        end = max(end, last[left + right])
        places[left + right] = place
    return [-float(places.get(token, place + 1)) for token in tokens]


def _check_merges(
    tokenizer: Tokenizer, tokens: list[str], kinds: list[PieceType], scores: list[float]
) -> None:
    """Raises if GGUF's rule, joining the best-scored pair, differs from the tokenizer's merges.

    Merges of one score may come in any order if they make one piece, and longest first if they make several.
    """
    again = json.loads(sentencepiece_bpe(Pieces(tokens, scores, kinds, tokenizer.unk_id)).to_str())
    known = dict(zip(tokens, scores, strict=True))
    ours, theirs = (
        {
            score: [(left, right) for left, right in run]
            for score, run in groupby(_merges(each["model"]), key=lambda pair: known.get("".join(pair)))
        }
        for each in (again, tokenizer.description)
    )
    lengths = ([(-len(left), -len(right)) for left, right in run] for run in theirs.values() if _several(run))
    same = list(ours) == list(theirs) and all(set(ours[score]) == set(run) for score, run in theirs.items())
    if not same or any(each != sorted(each) for each in lengths):
        raise CamelidError(
            "its merges cannot be expressed as scores of pieces, which is all that GGUF stores"
        )


def _several(merges: list[tuple[str, str]]) -> bool:
    return len({left + right for left, right in merges}) > 1
