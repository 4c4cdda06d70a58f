"""Constrained decoding: which tokens may come next in a text that must match a regular expression or JSON
schema.

llguidance compiles both to a grammar over bytes and matches the vocabulary's bytes against it. This module
gives it the bytes of each token and decides where a text may end, so that every kind of vocabulary works.
"""

import json
import re
from collections.abc import Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from camelid.base.errors import CamelidError, WrongCall
from camelid.lm.json_schema import check_schema, fold_patterns
from camelid.lm.sampling import Sampling
from camelid.text.stream import REPLACEMENT, token_bytes
from camelid.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

KEPT = 64
"""Compiled grammars that one engine caches."""
WHITE_SPACE = r" |\n[ \t]{0,32}"
"""Whitespace allowed between the parts of JSON: bounded, since a model could otherwise emit spaces
forever."""
HEAD = '%llguidance {"no_forcing": true}'
"""Where only one text can follow, llguidance would force its usual tokens; without forcing, every
tokenisation of that text stays allowed."""


class Grammars:
    """The constraints for one tokenizer; each grammar is compiled once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._compiled: dict[tuple[object, object], LLMatcher] = {}

    def constraint(self, sampling: Sampling) -> "Constraint | None":
        """The constraint of a new text, or None if `sampling` has no regex and no schema.

        Raises `WrongCall` if llguidance is not installed or cannot use the expression or schema, with its
        reason.
        """
        if not sampling.is_constrained:
            return None
        key = (sampling.regex, sampling.json_schema)
        if key not in self._compiled:
            if len(self._compiled) == KEPT:
                self._compiled.pop(next(iter(self._compiled)))
            self._compiled[key] = _compile(self._vocabulary.trie, sampling)
        return Constraint(self._compiled[key].deep_copy(), self._vocabulary, sampling)

    @cached_property
    def _vocabulary(self) -> "_Vocabulary":
        return _Vocabulary(self._tokenizer)


class Constraint:
    """The tokens that may come next in one text; `accept` advances by one token.

    `is_complete` is true when the text is complete and nothing may follow. Raises `CamelidError` where the
    grammar requires text that the vocabulary has no token for, and `WrongCall` if that is so at the
    beginning.
    """

    def __init__(self, matcher: "LLMatcher", vocabulary: "_Vocabulary", sampling: Sampling) -> None:
        self._matcher, self._vocabulary, self._sampling = matcher, vocabulary, sampling
        self._names: Int[ndarray, " vocab"] = vocabulary.openings
        self._silent = vocabulary.silent
        try:
            self._next()
        except CamelidError as error:
            raise WrongCall(str(error)) from error
        if self.is_complete:
            raise WrongCall(f"{_named(sampling)} allows only the empty text")

    def masked(self, logits: Float[ndarray, " vocab"]) -> Float[ndarray, " vocab"]:
        """Logits with -inf for tokens that may not come next; stop tokens are allowed only where the text may
        end."""
        masked = np.full_like(logits, -np.inf)
        masked[self.allowed] = logits[self.allowed]
        return masked

    def accept(self, token: int) -> None:
        """Advances by a text token, which must be allowed."""
        if token not in self._silent:
            self._matcher.consume_token(int(self._names[token]))
        self._names, self._silent = self._vocabulary.inner, self._vocabulary.silent[:0]
        self._next()

    def _next(self) -> None:
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        error = self._matcher.get_error()
        # llguidance's NoExtensionBias means that no token fits; that error is raised below.
        if error and not error.startswith("NoExtensionBias"):
            raise CamelidError(f"{_named(self._sampling)}: {_reason(error)}")
        may_end = self._matcher.is_accepting()
        (text,) = bits[self._names].nonzero()
        silent = self._silent if bits[self._vocabulary.inner].any() else self._silent[:0]
        self.is_complete = may_end and not len(text)
        stops = self._vocabulary.stops if may_end else self._vocabulary.stops[:0]
        self.allowed: Int[ndarray, " allowed"] = np.concatenate([text, silent, stops])
        if not may_end and not len(self.allowed):
            raise CamelidError(
                f"{_named(self._sampling)} requires text that this model's vocabulary has no token for; a "
                "schema that refers only to itself has no text at all"
            )


class _Vocabulary:
    """A vocabulary as llguidance takes it: the bytes of every id.

    Some decoders drop the leading space of a text's first token. Such a token gets a second entry, after the
    others, for its bytes at the start of a text. `openings` and `inner` map ids to entries at the start and
    everywhere else; `silent` are the ids that decode to nothing at the start.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        size = tokenizer.vocab_size
        self.stops: Int[ndarray, " stops"] = np.array(sorted(tokenizer.stop_ids), dtype=np.int64)
        # Special tokens and the unknown token are not text.
        markup = {*tokenizer.special_ids.values(), *tokenizer.stop_ids, tokenizer.unk_id}
        spelt = [_bytes(tokenizer, index) if index not in markup else b"" for index in range(size)]
        first_texts = tokenizer.backend.decode_batch(
            [[index] for index in range(size)], skip_special_tokens=True
        )
        self.inner: Int[ndarray, " vocab"] = np.arange(size)
        self.openings = self.inner.copy()
        for index, text in enumerate(first_texts):
            if spelt[index] and REPLACEMENT not in text and (opening := text.encode()) != spelt[index]:
                self.openings[index] = len(spelt)
                spelt.append(opening)
        silent = [index for index in range(size) if spelt[index] and not spelt[self.openings[index]]]
        self.silent: Int[ndarray, " silent"] = np.array(silent, dtype=np.int64)
        self.trie = _trie(spelt)


def check_text(sampling: Sampling, text: str) -> None:
    """Raises `WrongCall` if the regular expression or schema of `sampling` does not allow `text`."""
    matcher = _compile(_all_bytes(), sampling)
    spelt = list(text.encode())
    if matcher.try_consume_tokens(spelt) < len(spelt) or not matcher.is_accepting():
        raise WrongCall(f"{text!r} is not what {_named(sampling)} allows")


class _Spelt:
    """The attributes that llguidance reads of a vocabulary, under its names."""

    bos_token_id = None

    def __init__(self, spelt: Sequence[bytes]) -> None:
        self.tokens = (*spelt, b"<end>")
        self.eos_token_id = len(spelt)
        self.special_token_ids = (self.eos_token_id,)

    def __call__(self, text: str) -> list[int]:
        raise AssertionError(f"a grammar without forcing never encodes text, but {text!r} was given")


def _trie(spelt: Sequence[bytes]) -> "LLTokenizer":
    """llguidance's prefix tree over the bytes of all ids, with an end token; empty bytes are never
    allowed."""
    llguidance = _library()
    trie: LLTokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Spelt(spelt)))
    return trie


@cache
def _all_bytes() -> "LLTokenizer":
    return _trie([bytes([byte]) for byte in range(256)])


def _compile(trie: "LLTokenizer", sampling: Sampling) -> "LLMatcher":
    llguidance = _library()
    if sampling.regex is not None:
        start = f"/{llguidance.regex_to_lark(sampling.regex, '')}/"
    else:
        schema = json.loads(str(sampling.json_schema))
        check_schema(schema)
        schema = fold_patterns(schema, _exhausted)
        start = "%json " + json.dumps({"x-guidance": {"whitespace_pattern": WHITE_SPACE}} | schema)
    matcher: LLMatcher = llguidance.LLMatcher(
        trie, llguidance.LLMatcher.grammar_from_lark(f"{HEAD}\nstart: {start}"), log_level=0
    )
    if matcher.is_error():
        raise WrongCall(f"{_named(sampling)} cannot be used: {_reason(matcher.get_error())}")
    return matcher


def _exhausted(pattern: str, names: list[str]) -> bool:
    """Whether an expression that is anchored at both ends matches no text but `names`."""
    llguidance = _library()
    body = llguidance.regex_to_lark(pattern.removeprefix("^").removesuffix("$"), "")
    others = "|".join(llguidance.regex_to_lark(re.escape(name), "") for name in names)
    rest = f"{HEAD}\nstart: REST\nREST: /({body})/ & ~/({others})/"
    matcher: LLMatcher = llguidance.LLMatcher(
        _all_bytes(), llguidance.LLMatcher.grammar_from_lark(rest), log_level=0
    )
    if matcher.is_error():  # what it cannot intersect stays as it is
        return False
    matcher.compute_bitmask()
    return bool(matcher.is_error())


def _bytes(tokenizer: Tokenizer, index: int) -> bytes:
    """The bytes of an id, empty for a gap in the numbering."""
    return b"" if tokenizer.backend.id_to_token(index) is None else token_bytes(tokenizer, index)


def _named(sampling: Sampling) -> str:
    return "json_schema" if sampling.regex is None else f"regex {sampling.regex!r}"


def _reason(message: str) -> str:
    """The reason in an error of llguidance, without the place in its generated grammar."""
    found = re.search(r"^error: (.+)", message, re.MULTILINE) or re.search(
        r"(?:\(in regex\)|JSON schema): (.+)", message
    )
    return message.partition("\n")[0] if found is None else found[1]


def _library() -> Any:
    try:
        import llguidance
    except ModuleNotFoundError as error:
        raise WrongCall(
            'regex and json_schema need the llguidance package: pip install "camelid[constrain]"'
        ) from error
    return llguidance
