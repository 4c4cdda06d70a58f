"""A tokenizer as the metadata of a GGUF file: the other way of `formats.gguf.tokenizer`.

What llama.cpp has no name for is refused. Where it does otherwise whatever a file says, `vocabulary_notes` tells.
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
"""The score of what no text becomes."""


def vocabulary_metadata(tokenizer: Tokenizer, size: int, *, talks: bool = False) -> Table:
    """The keys `tokenizer.*` for a model of `size` embeddings; ids without a token are filled up as llama.cpp does.

    talks: the model was last trained on conversations, so these are to begin as in training where GGUF's one setting for
    BOS cannot suit texts too. Raises `CamelidError` where GGUF has no kind of vocabulary for the tokenizer's rules.
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
    """What llama.cpp does otherwise than this tokenizer, whatever the file says, in words."""
    notes = []
    if texts_alone_begin(tokenizer):
        begun, other = ("conversations", "true for texts") if talks else ("texts", "false for conversations")
        notes.append(
            f"training begins texts with {tokenizer.named_tokens['bos_token']} and conversations without; GGUF has one setting "
            f"for both, which here suits {begun}: llama-server --override-kv tokenizer.ggml.add_bos_token=bool:{other}"
        )
    cuts = [] if tokenizer.is_byte_level else steps_of(tokenizer.description["pre_tokenizer"])
    if any(cut["type"] == "Metaspace" and cut["prepend_scheme"] != "never" for cut in cuts):
        notes.append("llama.cpp puts one more space before a text that begins with one")
    return notes


def added_ends(tokenizer: Tokenizer) -> tuple[bool, bool]:
    """Whether texts get BOS before them, and EOS after; raises `CamelidError` where they get anything else."""
    bare, full = tokenizer.encode("a"), tokenizer.encode("a", special_tokens=True)
    for add_bos in (False, True):
        for add_eos in (False, True):
            head, tail = [tokenizer.bos_id] * add_bos, [tokenizer.eos_id] * add_eos
            if full == [*head, *bare, *tail]:
                return add_bos, add_eos
    raise CamelidError(
        f"its texts begin and end otherwise than with its bos_token and eos_token, which is all that GGUF can say: "
        f"'a' becomes {[tokenizer.backend.id_to_token(index) for index in full]}"
    )


def texts_alone_begin(tokenizer: Tokenizer) -> bool:
    """Whether texts begin with BOS and conversations do not."""
    if tokenizer.chat_template is None or not added_ends(tokenizer)[0]:
        return False
    return encode_conversation(tokenizer, Conversation.of(("a", "b")))[0][:1] != [tokenizer.bos_id]


def _ends(tokenizer: Tokenizer, add_eos: bool) -> dict[str, int]:
    """BOS and the stops by GGUF's names; llama.cpp would take ids of its own for a BOS or EOS that is not there."""
    stops = sorted(tokenizer.stop_ids, key=lambda index: (index != tokenizer.eos_id, index))
    names = [str(tokenizer.backend.id_to_token(index)) for index in stops]
    if not stops:
        raise CamelidError(
            "it has no token that ends a text, and llama.cpp would take one of its own choice; name an eos_token in "
            "tokenizer_config.json or an eos_token_id in generation_config.json"
        )
    if len(stops) > len(STOPS):
        raise CamelidError(
            f"{len(stops)} tokens end a generation ({', '.join(names)}), and GGUF has keys for {len(STOPS)} alone; leave "
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
                f"its {name} is {tokenizer.named_tokens.get(name)}, which its texts or its chat template take, and llama.cpp "
                f"would take {tokenizer.backend.id_to_token(written)}: an EOS that is no stop, and no BOS at all, are "
                "nothing that GGUF can say"
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
    """Raises where a token takes the white space around it or is found in whole words or respelt text alone."""
    flags = [flag for flag in ("lstrip", "rstrip", "single_word") if getattr(token, flag)]
    if token.normalized and not token.special and tokenizer.description["normalizer"] is not None:
        flags.append("normalized")
    if flags:
        raise CamelidError(
            f"its added token {token.content!r} has {' and '.join(flags)}, which GGUF cannot say"
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
        raise CamelidError(f"GGUF has no kind of vocabulary for this tokenizer (model {model['type']})")
    spelling = spelling_of(tokenizer, tokens, kinds)
    if model["type"] == "Unigram":
        known = dict(enumerate(score for _, score in model["vocab"]))
        scores = [float(known.get(index, LOWEST)) for index in range(len(tokens))]
        return {"model": "t5", "pre": "default", "scores": scores, **spelling}
    if spelling.get("precompiled_charsmap") or spelling["remove_extra_whitespaces"]:
        raise CamelidError(
            "GGUF's SentencePiece BPE neither replaces characters nor drops spaces, as this tokenizer does"
        )
    if not tokenizer.has_byte_fallback:
        raise CamelidError(
            "GGUF's SentencePiece BPE spells what it does not know in bytes, which this tokenizer has not"
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
    steps = [*steps_of(description["normalizer"]), *steps_of(description["pre_tokenizer"])]
    return [
        bool(description["model"].get("ignore_merges")),
        *({key: step[key] for key in kept if key in step} for step in steps),
    ]


def _scores(merges: list[Sequence[str]], tokens: list[str]) -> list[float]:
    """Minus the place of each piece among those that merges make; what no merge makes is as good as the worst.

    Pieces between whose merges others stand share a place: they had one score, and transformers sorts such merges by length.
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
    """Raises where joining the best-scored pair, which is what GGUF says, is not what the tokenizer's merges say.

    Merges of one score come in any order where they make one piece, and from the longest on where they make several.
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
            "its merges do not follow from scores of its pieces, which is all that GGUF keeps of them"
        )


def _several(merges: list[tuple[str, str]]) -> bool:
    return len({left + right for left, right in merges}) > 1
