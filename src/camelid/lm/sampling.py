"""Sampling settings, declared once for Python, command-line flags and requests to servers."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from camelid.base.errors import WrongCall

MOST = 1e10
"""Larger penalties and biases, and temperatures below its inverse, would leave the range of float32."""


@dataclass(frozen=True)
class Sampling:
    """How to continue a prompt; raises `WrongCall` on invalid values.

    They apply in this order: regex or json_schema, penalties, bias, temperature, top-k, top-p, min-p.
    """

    max_new_tokens: int = 256
    """Maximum number of tokens to generate; a completion cut there has the finish reason `length`."""
    temperature: float = 0.0
    """Divides the logits; 0 takes the most probable token (greedy decoding)."""
    top_k: int | None = None
    """Keep the k most probable tokens."""
    top_p: float | None = None
    """Keep the fewest most probable tokens whose probabilities reach p (arXiv:1904.09751, section 3.1)."""
    min_p: float | None = None
    """Keep tokens with at least this fraction of the highest probability (arXiv:2407.01082, section 3)."""
    seed: int = 0
    """Samples depend on this, the prompt and the sample's number, not on the batch (with a draft: on
    preemption too)."""
    stop: tuple[str, ...] = ()
    """Strings that end the completion, not included in it; they may spell special tokens (`<|im_end|>`)."""
    samples: int = 1
    """Completions for each prompt."""
    repetition_penalty: float = 1.0
    """Divides positive logits of tokens in prompt and completion, multiplies negative (arXiv:1909.05858,
    4.1)."""
    presence_penalty: float = 0.0
    """Subtracted from the logits of tokens that occur in the completion, as in OpenAI's API."""
    frequency_penalty: float = 0.0
    """Subtracted from the logit of a token once for each time it occurs in the completion."""
    logit_bias: Mapping[int, float] | tuple[tuple[int, float], ...] = ()
    """Added to the logits of tokens, by token id; -inf forbids a token."""
    regex: str | None = None
    """Regular expression for the whole text, in Rust's syntax (no look-around, no back-references)."""
    json_schema: Mapping[str, Any] | str | None = None
    """JSON schema that the whole text must satisfy, as a mapping or as JSON; stored as JSON."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", _as_tuple(self.stop))
        object.__setattr__(self, "json_schema", _schema_text(self.json_schema))
        bias = dict(self.logit_bias or ())
        for name, (holds, what) in _allowed(self, bias).items():
            if not holds:
                raise WrongCall(f"{name} is {getattr(self, name)!r}; it must be {what}")
        object.__setattr__(self, "seed", int(self.seed))
        object.__setattr__(self, "logit_bias", tuple(sorted(bias.items())))

    @property
    def changes_logits(self) -> bool:
        """Whether penalties, a bias or a constraint can change which token is most probable."""
        penalties = self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1
        return bool(penalties or self.logit_bias or self.is_constrained)

    @property
    def is_constrained(self) -> bool:
        """Whether the text must match a regular expression or a schema."""
        return self.regex is not None or self.json_schema is not None


def with_changes(sampling: Sampling | None, changes: dict[str, Any]) -> Sampling:
    """The sampling with some fields replaced; raises `WrongCall` on a field that does not exist."""
    names = [field.name for field in dataclasses.fields(Sampling)]
    if unknown := sorted(changes.keys() - set(names)):
        raise WrongCall(
            f"no such sampling setting: {', '.join(unknown)}; the settings are {', '.join(names)}"
        )
    return dataclasses.replace(sampling or Sampling(), **changes)


def _allowed(sampling: Sampling, bias: Mapping[int, float]) -> dict[str, tuple[bool, str]]:
    """For each setting whether its value is allowed, and a description of the allowed values."""
    least, top_k, top_p, min_p = 1 / MOST, sampling.top_k, sampling.top_p, sampling.min_p
    biases = (
        _is_whole(index, 0) and (value == -math.inf or _is_number(value)) for index, value in bias.items()
    )
    regex = sampling.regex
    return {
        "max_new_tokens": (_is_whole(sampling.max_new_tokens, 1), "at least 1"),
        "temperature": (
            sampling.temperature == 0 or _is_number(sampling.temperature, least),
            f"0 (greedy) or a positive number, from {least:g} to {MOST:g}",
        ),
        "top_k": (top_k is None or _is_whole(top_k, 1), "at least 1, or none"),
        "top_p": (
            top_p is None or (_is_number(top_p) and 0 < top_p <= 1),
            "above 0 and at most 1, or none",
        ),
        "min_p": (min_p is None or (_is_number(min_p) and 0 <= min_p <= 1), "from 0 to 1, or none"),
        "seed": (_is_whole(sampling.seed), "a whole number"),
        "stop": (all(map(_is_text, sampling.stop)), "strings that are not empty"),
        "samples": (_is_whole(sampling.samples, 1), "at least 1"),
        "repetition_penalty": (
            _is_number(sampling.repetition_penalty, least),
            f"a positive number, from {least:g} to {MOST:g}",
        ),
        "presence_penalty": (_is_number(sampling.presence_penalty), f"a number, at most {MOST:g}"),
        "frequency_penalty": (_is_number(sampling.frequency_penalty), f"a number, at most {MOST:g}"),
        "logit_bias": (all(biases), f"numbers of at most {MOST:g}, or -inf, by the ids of tokens"),
        "regex": (regex is None or _is_text(regex), "not empty"),
        "json_schema": (None in (regex, sampling.json_schema), "none, since there is a regex too"),
    }


def _is_whole(value: Any, least: float = -math.inf) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least


def _is_number(value: Any, least: float = -MOST) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and least <= float(value) <= MOST


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _as_tuple(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def _schema_text(schema: Mapping[str, Any] | str | None) -> str | None:
    """A JSON schema as JSON, its keys in order; raises `WrongCall` if it is not a JSON object."""
    if schema is None:
        return None
    try:
        read = json.loads(schema) if isinstance(schema, str) else dict(schema)
        text = json.dumps(read, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise WrongCall(f"json_schema is not valid JSON: {error}") from error
    if not isinstance(read, dict):
        raise WrongCall(f"json_schema is {text}; it must be a JSON object")
    return text
