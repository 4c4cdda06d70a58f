"""Text held to a regular expression or a JSON schema: which tokens may come next.

llguidance compiles both to a grammar over bytes and walks the vocabulary's bytes through it; what a token's bytes are,
and where a text may end, is said here, so that every kind of vocabulary will do.
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
from camelid.lm.sampling import Sampling
from camelid.text.stream import REPLACEMENT, token_bytes
from camelid.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

KEPT = 64
"""Compiled grammars that one engine keeps."""
WHITE_SPACE = r" |\n[ \t]{0,32}"
"""Between the parts of JSON, at most once in a place: without a bound, a model may go on with spaces for ever."""
HEAD = '%llguidance {"no_forcing": true}'
"""Where only one text can follow, llguidance would allow its usual tokens alone; here every spelling is the model's choice."""


class Grammars:
    """What the texts of one tokenizer are held to, each grammar compiled once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._compiled: dict[tuple[object, object], LLMatcher] = {}

    def constraint(self, sampling: Sampling) -> "Constraint | None":
        """The constraint of a new text, none where `sampling` asks for none.

        Raises `WrongCall` where llguidance cannot use the expression or schema, saying why, and where it is not installed.
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
    """What may come next in one text; `accept` goes on by a token.

    `is_complete` says that the text is whole and nothing may follow. Raises `CamelidError` where something must follow
    that the vocabulary cannot spell, and `WrongCall` where that is so at the beginning.
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
            raise WrongCall(f"{_named(sampling)} allows the empty text alone")

    def masked(self, logits: Float[ndarray, " vocab"]) -> Float[ndarray, " vocab"]:
        """Logits with -inf outside what may come next: stop tokens where the text may end, tokens of text that fit."""
        masked = np.full_like(logits, -np.inf)
        masked[self.allowed] = logits[self.allowed]
        return masked

    def accept(self, token: int) -> None:
        """Goes on by a token of text that was allowed."""
        if token not in self._silent:
            self._matcher.consume_token(int(self._names[token]))
        self._names, self._silent = self._vocabulary.inner, self._vocabulary.silent[:0]
        self._next()

    def _next(self) -> None:
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        error = self._matcher.get_error()
        # Its error of this name is that no token fits, which is said below.
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
                f"{_named(self._sampling)} asks for something that this model's vocabulary has no token for"
            )


class _Vocabulary:
    """A vocabulary as llguidance takes it: the bytes of every id.

    Some decoders leave out the space with which the first token of a text begins; such a token has a second name
    for that place, past the others. `openings` and `inner` give the names of all ids there and everywhere else;
    `silent` are those of which nothing is left there.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        size = tokenizer.vocab_size
        self.stops: Int[ndarray, " stops"] = np.array(sorted(tokenizer.stop_ids), dtype=np.int64)
        # Markup is no text, nor is the token for what the vocabulary cannot spell.
        markup = {*tokenizer.special_ids.values(), *tokenizer.stop_ids, tokenizer.unk_id}
        spelt = [_bytes(tokenizer, index) if index not in markup else b"" for index in range(size)]
        alone = tokenizer.backend.decode_batch([[index] for index in range(size)], skip_special_tokens=True)
        self.inner: Int[ndarray, " vocab"] = np.arange(size)
        self.openings = self.inner.copy()
        for index, text in enumerate(alone):
            if spelt[index] and REPLACEMENT not in text and (opening := text.encode()) != spelt[index]:
                self.openings[index] = len(spelt)
                spelt.append(opening)
        silent = [index for index in range(size) if spelt[index] and not spelt[self.openings[index]]]
        self.silent: Int[ndarray, " silent"] = np.array(silent, dtype=np.int64)
        self.trie = _trie(spelt)


def check_text(sampling: Sampling, text: str) -> None:
    """Raises `WrongCall` where `text` is none that the regular expression or schema of `sampling` allows."""
    matcher = _compile(_bytes_alone(), sampling)
    spelt = list(text.encode())
    if matcher.try_consume_tokens(spelt) < len(spelt) or not matcher.is_accepting():
        raise WrongCall(f"{text!r} is not what {_named(sampling)} allows")


class _Spelt:
    """The attributes that llguidance reads of a vocabulary; the names are its own."""

    bos_token_id = None

    def __init__(self, spelt: Sequence[bytes]) -> None:
        self.tokens = (*spelt, b"<end>")
        self.eos_token_id = len(spelt)
        self.special_token_ids = (self.eos_token_id,)

    def __call__(self, text: str) -> list[int]:
        raise AssertionError(f"asked to encode {text!r}, which a grammar without forcing never is")


def _trie(spelt: Sequence[bytes]) -> "LLTokenizer":
    """The bytes of all ids as llguidance's own tree, with an end of its own: empty bytes are never allowed."""
    llguidance = _library()
    trie: LLTokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Spelt(spelt)))
    return trie


@cache
def _bytes_alone() -> "LLTokenizer":
    return _trie([bytes([byte]) for byte in range(256)])


def _compile(trie: "LLTokenizer", sampling: Sampling) -> "LLMatcher":
    llguidance = _library()
    if sampling.regex is not None:
        start = f"/{llguidance.regex_to_lark(sampling.regex, '')}/"
    else:
        schema = json.loads(str(sampling.json_schema))
        start = "%json " + json.dumps({"x-guidance": {"whitespace_pattern": WHITE_SPACE}} | schema)
    matcher: LLMatcher = llguidance.LLMatcher(
        trie, llguidance.LLMatcher.grammar_from_lark(f"{HEAD}\nstart: {start}"), log_level=0
    )
    if matcher.is_error():
        raise WrongCall(f"{_named(sampling)} cannot be used: {_reason(matcher.get_error())}")
    return matcher


def _bytes(tokenizer: Tokenizer, index: int) -> bytes:
    """The bytes of an id, none where the numbering has a gap."""
    return b"" if tokenizer.backend.id_to_token(index) is None else token_bytes(tokenizer, index)


def _named(sampling: Sampling) -> str:
    return "json_schema" if sampling.regex is None else f"regex {sampling.regex!r}"


def _reason(message: str) -> str:
    """The sentence in an error of llguidance, which also says where in its own grammar that is."""
    told = re.search(r"^error: (.+)", message, re.MULTILINE) or re.search(
        r"(?:\(in regex\)|JSON schema): (.+)", message
    )
    return message.partition("\n")[0] if told is None else told[1]


def _library() -> Any:
    try:
        import llguidance
    except ModuleNotFoundError as error:
        raise WrongCall(
            'regex and json_schema need the llguidance package: pip install "camelid[constrain]"'
        ) from error
    return llguidance
