"""The score of a continuation from a response to `echo` and `logprobs`: which of its tokens are the
continuation's.

Servers count `text_offset` differently (vLLM counts BOS and drops spaces), so tokens are matched with the
text; offsets decide only where there are no tokens.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from camelid.base.errors import CamelidError
from camelid.lm.interface import Score
from camelid.text.byte_alphabet import BYTE_OF_CHARACTER

MOST_OPENING = 4
"""Tokens, such as BOS, that may come before the text."""
ABOVE_ZERO = 1e-3
"""Rounding that a log-probability may have above 0."""


class PromptLogprobsError(CamelidError):
    """The server gives no probabilities of a prompt's tokens."""


@dataclass(frozen=True)
class Echo:
    """The tokens of an echoed text, as a server returned them; missing values are None, not 0."""

    logprobs: tuple[float | None, ...]
    best: tuple[float | None, ...]
    """The highest log-probability at each token's place."""
    tokens: tuple[str, ...] | None
    offsets: tuple[int, ...] | None
    text: str | None
    prompt_tokens: int | None
    """The tokens of the echoed text, without those generated after it."""

    @classmethod
    def of(cls, content: Mapping[str, Any], choice: Mapping[str, Any]) -> "Echo":
        """Reads a response; raises `PromptLogprobsError` if it holds none."""
        found = choice.get("logprobs")
        if not isinstance(found, dict):
            raise PromptLogprobsError("'logprobs' is missing or null")
        if "token_logprobs" not in found and "content" in found:
            raise PromptLogprobsError("'logprobs' has the form of chat completions, without the prompt")
        own = found.get("token_logprobs")
        if not isinstance(own, list) or not own:
            raise PromptLogprobsError("'token_logprobs' is missing or empty")
        tokens, offsets = _listed(found.get("tokens"), own, str), _listed(found.get("text_offset"), own, int)
        top = _listed(found.get("top_logprobs"), own) or [None] * len(own)
        usage = content.get("usage")
        counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return cls(
            logprobs=tuple(map(_logprob, own)),
            best=tuple(map(_highest, top)),
            tokens=tuple(tokens) if tokens else None,
            offsets=tuple(offsets) if offsets else None,
            text=choice["text"] if isinstance(choice.get("text"), str) else None,
            prompt_tokens=counted if isinstance(counted, int) and counted > 0 else None,
        )

    def score(self, prompt: str, continuation: str, context: "Echo | None" = None) -> Score | None:
        """The continuation's score; None if it cannot be told which tokens are its own.

        context: the prompt by itself, for tokens that do not spell the text. Raises `PromptLogprobsError` if
        a value is missing.
        """
        known = [value for value in self.logprobs if value is not None]
        if not known or (len(known) > 1 and not any(known)):
            raise PromptLogprobsError("every log-probability is null or 0")
        start, end = self._matched(prompt, continuation) or (None, None)
        if end is None:
            self._must_repeat(prompt + continuation)
            start, end = self._by_offsets(prompt, continuation) if self.tokens is None else (None, None)
        if start is None and context is not None:
            # As lm-evaluation-harness and the engine count: past as many tokens as the prompt by itself has.
            start, end = context.count(prompt), end or self.count(prompt + continuation)
        if start is None or end is None or start >= end:
            return None
        span = start, end
        own, best = self.logprobs[slice(*span)], self.best[slice(*span)]
        values = [value for value in own if value is not None]
        if len(values) < len(own):
            raise PromptLogprobsError(
                f"{len(own) - len(values)} of the continuation's {len(own)} tokens have no value"
                + ("; the first token of a text has none: give a prompt" if span[0] == 0 else "")
            )
        return Score(sum(values), len(values), _is_greedy(values, best))

    def count(self, text: str) -> int | None:
        """The tokens of the echoed text, without those generated after it; None if the server does not
        say."""
        matched = self._matched("", text)
        whole = len(self.logprobs) if self.text == text else None
        return self.prompt_tokens or (matched[1] if matched else whole)

    def _matched(self, prompt: str, continuation: str) -> tuple[int | None, int] | None:
        """The continuation's first token and the one after its last, found by the texts of the tokens.

        The first is None where a token has characters of both, besides white space.
        """
        for spelling in SPELLINGS if self.tokens is not None else ():
            spelt = [spelling(token) for token in self.tokens or ()]
            for bare in (False, True):  # first exactly, then without white space, which many servers drop
                found = _span(spelt, prompt.encode(), continuation.encode(), bare)
                if found is not None:
                    return found
        return None

    def _by_offsets(self, prompt: str, continuation: str) -> tuple[int | None, int | None]:
        """The same by the offsets, without the tokens' texts; generated tokens come after the end."""
        end = len(prompt + continuation)
        places = [index for index, at in enumerate(self.offsets or ()) if len(prompt) <= at < end]
        return (places[0], places[-1] + 1) if places else (None, None)

    def _must_repeat(self, text: str) -> None:
        """Raises `PromptLogprobsError` if the response is only what the model generated after the text."""
        if self.prompt_tokens is not None and len(self.logprobs) < self.prompt_tokens - 1:
            raise PromptLogprobsError(f"{len(self.logprobs)} of {self.prompt_tokens} tokens are there")
        if self.text is not None and _bare(text.encode()) not in _bare(self.text.encode()):
            raise PromptLogprobsError("the response does not repeat the prompt, as 'echo' asks")


def _span(
    spelt: Sequence[bytes], prompt: bytes, continuation: bytes, bare: bool
) -> tuple[int | None, int] | None:
    """The continuation's tokens if the tokens spell the text, after at most `MOST_OPENING` others."""
    pieces = [_bare(piece) for piece in spelt] if bare else spelt
    text = _bare(prompt + continuation) if bare else prompt + continuation
    opening = next((n for n in range(MOST_OPENING + 1) if b"".join(pieces[n:]).startswith(text)), None)
    if opening is None or not text:
        return None
    # White space between the two decides nothing: tokens of some vocabularies end in it.
    border, known, at = len(_bare(prompt)), 0, 0
    start: int | None = opening
    for index in range(opening, len(pieces)):
        at, own = at + len(pieces[index]), len(_bare(spelt[index]))
        if own and known + own <= border:
            start = index + 1
        elif known < border < known + own:
            start = None
        known += own
        if at >= len(text):
            break
    last = index
    # White space at the end of a continuation is its own, too.
    while (
        bare
        and continuation[-1:].isspace()
        and last + 1 < len(pieces)
        and not pieces[last + 1]
        and spelt[last + 1]
    ):
        last += 1
    return start, last + 1


def _bare(text: bytes) -> bytes:
    """Without white space."""
    return b"".join(text.split())


def _as_it_is(token: str) -> bytes:
    r"""The token's text; OpenAI writes pieces of characters as `bytes:\xe2\x80`."""
    if token.startswith("bytes:\\x"):
        return bytes.fromhex("".join(re.findall(r"\\x([0-9a-fA-F]{2})", token)))
    return token.encode("utf-8", errors="replace")


def _sentencepiece(token: str) -> bytes:
    """A piece as SentencePiece writes it: a mark for a space, bytes in hexadecimal."""
    if found := re.fullmatch(r"<0x([0-9a-fA-F]{2})>", token):
        return bytes.fromhex(found[1])
    return token.replace("▁", " ").encode("utf-8", errors="replace")


def _byte_level(token: str) -> bytes:
    """A piece of a byte-level vocabulary, in which each character is a byte."""
    if all(character in BYTE_OF_CHARACTER for character in token):
        return bytes(BYTE_OF_CHARACTER[character] for character in token)
    return token.encode("utf-8", errors="replace")


SPELLINGS = (_as_it_is, _sentencepiece, _byte_level)


def _is_greedy(values: Sequence[float], best: Sequence[float | None]) -> bool | None:
    known = [value for value in best if value is not None]
    if len(known) < len(values):
        return None
    return all(own >= most for own, most in zip(values, known, strict=True))


def _logprob(value: Any) -> float | None:
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or math.isnan(value)
        or value > ABOVE_ZERO
    ):
        raise PromptLogprobsError(f"'token_logprobs' holds {value!r:.40}, which is not a log-probability")
    return float(value)


def _highest(entry: Any) -> float | None:
    """The highest log-probability of a place, from a mapping by token or a list of objects."""
    values = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
    numbers = [value.get("logprob") if isinstance(value, dict) else value for value in values]
    known = [float(value) for value in numbers if isinstance(value, int | float) and not math.isnan(value)]
    return max(known, default=None)


def _listed(values: Any, own: Sequence[Any], kind: type = object) -> list[Any] | None:
    """The values if they are a list of this kind, as long as the log-probabilities; otherwise None."""
    if not isinstance(values, list) or len(values) != len(own):
        return None
    return values if all(isinstance(value, kind) for value in values) else None
