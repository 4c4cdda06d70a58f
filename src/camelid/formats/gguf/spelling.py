"""A tokenizer's text normalisation before SentencePiece's search, as GGUF keys.

Only the exact steps that we and transformers write are recognised; all others are rejected.
"""

import base64
import re
from collections.abc import Sequence
from typing import Any

from camelid.base.errors import CamelidError
from camelid.text.tokenizer import Tokenizer
from camelid.text.vocabulary import SPACE, PieceType

Table = dict[str, Any]


def _replacing(kind: str, pattern: str, content: str) -> Table:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


PREFIX = {"type": "Prepend", "prepend": SPACE}
SPACES = _replacing("String", " ", SPACE)
LEADING, RUNS = _replacing("Regex", r"\A +", ""), _replacing("Regex", " {2,}", " ")
TRAILING = _replacing("Regex", rf"{SPACE}+\z", "")
PLAIN = ([SPACES], [PREFIX, SPACES])
SQUEEZED = ([LEADING, RUNS, SPACES, TRAILING], [LEADING, RUNS, PREFIX, SPACES, TRAILING])
"""SentencePiece's normalisation as `sentencepiece_unigram` writes it, without the character map."""
RUNS_MARKED = _replacing("Regex", " {2,}", SPACE)
STRIPPED = [{"type": "Strip", "strip_left": False, "strip_right": True}, RUNS_MARKED]
"""The same as transformers writes it, before a `Metaspace` that marks the spaces."""
WORDS = {"type": "Split", "pattern": {"String": SPACE}, "behavior": "MergedWithNext", "invert": False}


def spelling_of(tokenizer: Tokenizer, tokens: Sequence[str], kinds: Sequence[PieceType]) -> Table:
    """GGUF's keys for space prefix, space removal and character map; raises `CamelidError` on other steps."""
    steps, cuts = (
        steps_of(tokenizer.description["normalizer"]),
        steps_of(tokenizer.description["pre_tokenizer"]),
    )
    charsmaps = [step for step in steps[:1] if step["type"] == "Precompiled"]
    rest = steps[len(charsmaps) :]
    metaspaces = [cut for cut in cuts if cut["type"] == "Metaspace"]
    breaks = [cut for cut in cuts if cut["type"] == "WhitespaceSplit"]
    # Looking up words one by one changes nothing, because no piece crosses a word's start.
    crossing = any(
        SPACE in token[1:] for token, kind in zip(tokens, kinds, strict=True) if kind == PieceType.NORMAL
    )
    others = [cut for cut in cuts if cut not in (*metaspaces, *breaks)]
    squeezed = bool(breaks) or rest in (*SQUEEZED, STRIPPED)
    match metaspaces:
        case []:
            known = not breaks and rest in (*PLAIN, *SQUEEZED)
        case [{"replacement": "▁", "split": split}]:
            # The character map turns line breaks into spaces, where words are split.
            known = rest in ([], STRIPPED) or (bool(breaks) and rest == [RUNS_MARKED])
            known &= not (split and crossing) and bool(charsmaps) >= bool(breaks)
        case _:
            known = False
    known &= all((cut == WORDS and not crossing) or _reserves(cut, tokens, kinds) for cut in others)
    if not known:
        shown = [{**step, "precompiled_charsmap": "..."} if step in charsmaps else step for step in steps]
        raise CamelidError(
            "GGUF cannot express this tokenizer's normalisation steps: "
            f"{', '.join(map(str, [*shown, *cuts])) or 'none'}"
        )
    spelling: Table = {
        "add_space_prefix": PREFIX in rest or any(each["prepend_scheme"] != "never" for each in metaspaces),
        "remove_extra_whitespaces": squeezed,
    }
    if charsmaps:
        spelling["precompiled_charsmap"] = base64.b64decode(charsmaps[0]["precompiled_charsmap"])
    return spelling


def steps_of(part: Table | None) -> list[Table]:
    """The steps of a normaliser or pre-tokenizer, in order."""
    if part is None:
        return []
    inside = part.get("normalizers", part.get("pretokenizers"))
    return [part] if inside is None else [step for each in inside for step in steps_of(each)]


def _reserves(cut: Table, tokens: Sequence[str], kinds: Sequence[PieceType]) -> bool:
    """Whether a split only keeps text from matching control tokens, as in `sentencepiece_unigram`."""
    pattern = str(cut.get("pattern", {}).get("Regex", ""))
    named = zip(tokens, kinds, strict=True)
    reserved = [token for token, kind in named if kind != PieceType.NORMAL and len(token) > 1]
    places = [f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in reserved]
    same = bool(pattern) and pattern == "|".join(place for place in places if place in pattern)
    return same and (cut["behavior"], cut["invert"]) == ("MergedWithPrevious", False)
