"""Responses in OpenAI's form: whole, and as the pieces of a stream."""

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from camelid.engine.decoder import Top
from camelid.engine.generation import Generation
from camelid.text.stream import StreamDecoder, token_bytes
from camelid.text.tokenizer import Tokenizer

Shape = dict[str, Any]


def usage(generations: Sequence[Generation], prompts: int = 1) -> Shape:
    """The count of tokens: a prompt's once for all its samples, generated ones with those that end a text."""
    leaders = generations[:: max(1, len(generations) // prompts)]
    prompt = sum(len(each.prompt) for each in leaders)
    completion = sum(len(each.tokens) for each in generations)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(each.cached for each in leaders)},
    }


@dataclass(frozen=True)
class Header:
    """What all parts of one response begin with."""

    kind: str
    model: str
    prefix: str
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", f"{self.prefix}-{secrets.token_hex(12)}")

    def around(self, choices: Sequence[Shape], **more: Any) -> Shape:
        """The response, or a piece of it."""
        return {
            "id": self.id,
            "object": self.kind,
            "created": self.created,
            "model": self.model,
            "choices": list(choices),
            **more,
        }


class TokenReport:
    """The tokens of one text with their log-probabilities, in the form of chat completions, as far as the
    text has been given out.

    A token that ends the text without being part of it, such as `<|im_end|>`, is left out.
    """

    def __init__(self, tokenizer: Tokenizer, generation: Generation) -> None:
        self._tokenizer, self._generation = tokenizer, generation
        self._said = self._bytes = 0

    def until(self, text_bytes: int) -> list[Shape]:
        """The entries of the tokens that are new since the last call, within the first bytes of the text."""
        return [*self._entries(text_bytes)]

    def _entries(self, text_bytes: int) -> Iterator[Shape]:
        generation, special = self._generation, self._tokenizer.special_ids.values()
        while self._said < len(generation.tokens) and self._bytes < text_bytes:
            token, logprob = generation.tokens[self._said], generation.logprobs[self._said]
            entry = self._entry(token, logprob)
            self._bytes += 0 if token in special else len(entry["bytes"])
            top = generation.top[self._said] if generation.alternatives else ()
            self._said += 1
            yield {**entry, "top_logprobs": [self._entry(*each) for each in top]}

    def _entry(self, token: int, logprob: float) -> Shape:
        spelt = token_bytes(self._tokenizer, token)
        return {"token": spelt.decode(errors="replace"), "logprob": logprob, "bytes": list(spelt)}


def legacy_logprobs(
    tokenizer: Tokenizer, tokens: Sequence[int], logprobs: Sequence[float | None], top: Sequence[Top | None]
) -> Shape:
    """Tokens with log-probabilities in the form of `/v1/completions`.

    An offset is the place in the text, in characters, where what the token adds to it begins.
    """
    decoder, offsets, length = StreamDecoder(tokenizer), [], 0
    for token in tokens:
        offsets.append(length)
        length += len(decoder.push(token))
    return {
        "tokens": [token_bytes(tokenizer, token).decode(errors="replace") for token in tokens],
        "token_logprobs": list(logprobs),
        "top_logprobs": [each if each is None else _by_text(tokenizer, each) for each in top],
        "text_offset": offsets,
    }


def _by_text(tokenizer: Tokenizer, top: Top) -> dict[str, float]:
    """Log-probabilities by the token's text; of tokens that are shown alike the most probable one."""
    return {
        token_bytes(tokenizer, token).decode(errors="replace"): logprob for token, logprob in reversed(top)
    }
