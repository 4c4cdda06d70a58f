"""Denoising: corrupted text and the target that restores it; T5's objectives (arXiv:1910.10683, section 3.3).

A corruption is a pure function of the ids and of a generator's draws. It draws uniform numbers only, which
numpy computes the same way everywhere, so the same seed gives the same corruption on every machine.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from camelid.base.errors import CamelidError, WrongCall
from camelid.text.tokenizer import Tokenizer

DenoisingKind = Literal["span", "iid", "drop", "bert", "mass", "deshuffle", "prefix_lm"]
Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]
BERT_RANDOM = 0.1
"""Share of BERT-style noise that becomes a random token instead of a sentinel."""
RESERVED = 3
"""The first ids are never drawn: padding, EOS and unknown in T5, the special tokens in our vocabularies."""
TRIES = 32
"""Maximum number of masks drawn for one text until its spans fit the sentinels."""


@dataclass(frozen=True)
class Marks:
    """The ids that a corruption adds to the text: sentinels in order of use, and EOS.

    vocab_size: upper bound (exclusive) of the random tokens of `bert`.
    """

    sentinels: Ids
    eos_id: int
    vocab_size: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Marks":
        """The `<extra_id_0>`, `<extra_id_1>` ... of a tokenizer; in T5 the k-th is vocab_size - 1 - k.

        Raises `CamelidError` if it has none, or no EOS.
        """
        names = [re.fullmatch(r"<extra_id_(\d+)>", token) for token in tokenizer.special_ids]
        found = {int(name[1]): tokenizer.special_ids[name[0]] for name in names if name}
        if not found or tokenizer.eos_id is None:
            missing = "EOS token" if found else "sentinels (<extra_id_0>, <extra_id_1>, ...)"
            raise CamelidError(
                f"the tokenizer has no {missing}, which denoising needs; use one that has them, such as T5's"
            )
        sentinels = np.array([found[number] for number in sorted(found)], dtype=np.int64)
        return cls(sentinels, tokenizer.eos_id, tokenizer.vocab_size)


@dataclass(frozen=True)
class Denoising:
    """One way to corrupt a text into a source and a target, each with EOS at its end.

    | kind | source | target | T5's name |
    |---|---|---|---|
    | span | a sentinel per noise span | a sentinel per text span, and the noise | span_3_15_u_u |
    | iid | the same, each token drawn independently | the same | iid_15_u_u |
    | drop | the text without the noise | the noise | iid_15_d_d |
    | bert | 90 % of the noise one sentinel, 10 % random tokens | the whole text | iid_15_r10s90_f |
    | mass | each token of noise one sentinel | the whole text | iid_15_m_f |
    | deshuffle | the tokens in random order | the whole text | all_permute |
    | prefix_lm | a beginning of random length | the rest | prefix_lm |

    noise_density: fraction of noise, in the first five kinds. mean_span: mean length of a noise span, in
    `span`. Raises `WrongCall` on an unknown kind and values out of bounds.
    """

    kind: DenoisingKind = "span"
    noise_density: float = 0.15
    mean_span: float = 3.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(DenoisingKind):
            raise WrongCall(f"kind is {self.kind!r}; allowed: {', '.join(get_args(DenoisingKind))}")
        if not 0 < self.noise_density < 1:
            raise WrongCall(f"noise_density is {self.noise_density:g}; it must be between 0 and 1")
        if self.mean_span < 1:
            raise WrongCall(f"mean_span is {self.mean_span:g}; it must be at least 1 token")

    def raw_length(self, source_length: int) -> int:
        """Tokens of text corrupted together, so that no source exceeds `source_length`, EOS included."""
        if self.kind == "span":
            return random_spans_lengths(source_length, self.noise_density, self.mean_span)[0]
        return source_length - 1

    def corrupt(
        self, ids: NDArray[np.integer], generator: np.random.Generator, marks: Marks
    ) -> tuple[Ids, Ids]:
        """Source and target of a text, ids [time]; raises `CamelidError` if there are too few sentinels."""
        source, target = self._corrupted(ids.astype(np.int64), generator, marks)
        return np.append(source, marks.eos_id), np.append(target, marks.eos_id)

    def check_sentinels(self, raw_length: int, count: int) -> None:
        """Raises `CamelidError` if texts of `raw_length` tokens need more than `count` sentinels.

        For `iid`, the number of spans is random; the bound is its mean plus three standard deviations.
        """
        if self.kind == "span":
            needed = _noise_and_spans(raw_length, self.noise_density, self.mean_span)[1]
        elif self.kind == "iid":
            border = self.noise_density * (1 - self.noise_density)
            needed = math.ceil(raw_length * border + 3 * math.sqrt(raw_length * border * (1 - 3 * border)))
        else:
            needed = 1 if self.kind in ("bert", "mass") else 0
        if needed > count:
            raise _too_few_sentinels(needed, count)

    def _corrupted(self, text: Ids, generator: np.random.Generator, marks: Marks) -> tuple[Ids, Ids]:
        sentinels = marks.sentinels
        count = len(text)
        match self.kind:
            case "deshuffle":
                return text[_shuffled(count, generator)], text
            case "prefix_lm":
                # At least one token on either side; a single token becomes the target.
                split = min(1, count - 1) + int(generator.random() * (count - 1))
                return text[:split], text[split:]
            case "span":
                noise = random_spans_noise_mask(count, generator, self.noise_density, self.mean_span)
            case "iid":
                # Rarely, chance gives more spans than there are sentinels; then draw again.
                for _ in range(TRIES):
                    noise = iid_noise_mask(count, generator, self.noise_density)
                    if max(_starts(noise).sum(), _starts(~noise).sum()) <= len(sentinels):
                        break
            case _:
                noise = iid_noise_mask(count, generator, self.noise_density)
        match self.kind:
            case "drop":
                return text[~noise], text[noise]
            case "mass":
                return np.where(noise, sentinels[0], text), text
            case "bert":
                drawn = RESERVED + (generator.random(count) * (marks.vocab_size - RESERVED)).astype(np.int64)
                replaced = np.where(generator.random(count) < BERT_RANDOM, drawn, sentinels[0])
                return np.where(noise, replaced, text), text
            case _:
                return with_sentinels(text, noise, sentinels), with_sentinels(text, ~noise, sentinels)


def random_spans_lengths(
    inputs_length: int, noise_density: float = 0.15, mean_span: float = 3.0
) -> tuple[int, int]:
    """The longest text whose source has at most `inputs_length` tokens, and the length of its target.

    Of t tokens, n = round(t noise_density) are noise, in s = round(n / mean_span) spans; the source has t - n
    + s + 1 tokens, the target n + s + 1, EOS included (T5's random_spans_helper). round() is half to even.
    """

    def lengths(tokens: int) -> tuple[int, int]:
        # At least one of each, like the mask; for a dozen tokens the released code counts none.
        noise, spans = _noise_and_spans(tokens, noise_density, mean_span)
        return tokens - noise + spans + 1, noise + spans + 1

    if inputs_length < 3:
        raise WrongCall(f"a source of {inputs_length} tokens is too short to corrupt; use at least 3")
    tokens = inputs_length - 1
    while lengths(tokens + 1)[0] <= inputs_length:
        tokens += 1
    source, target = lengths(tokens)
    if noise_density == 0.5 and target > source:
        # As in the released code: at density one half, the target also keeps within the source's round
        # length.
        return tokens - 1, target - 1
    return tokens, target


def random_spans_noise_mask(
    length: int, generator: np.random.Generator, noise_density: float = 0.15, mean_span: float = 3.0
) -> Mask:
    """Which of `length` tokens are noise, in spans of `mean_span` tokens on average.

    The number of noise tokens and spans is fixed. Noise and text are each split into that many parts,
    uniformly over all splits, and interleaved, text first: the first token is never noise, the last always is
    (T5's random_spans_noise_mask).
    """
    # Fewer than two tokens cannot hold both text and noise: truncate the mask of two.
    whole = max(length, 2)
    noise, spans = _noise_and_spans(whole, noise_density, mean_span)
    noise_parts = _random_parts(noise, spans, generator)
    text_parts = _random_parts(whole - noise, spans, generator)
    parts = np.stack([text_parts, noise_parts], axis=1).ravel()
    mask: Mask = np.repeat(np.arange(2 * spans) % 2 == 1, parts)[:length]
    return mask


def iid_noise_mask(length: int, generator: np.random.Generator, noise_density: float = 0.15) -> Mask:
    """Which of `length` tokens are noise, each independently with this probability."""
    return generator.random(length) < noise_density


def with_sentinels(text: Ids, hidden: Mask, sentinels: Ids) -> Ids:
    """The text with each run of hidden tokens replaced by the next sentinel.

    Raises `CamelidError` if there are more runs than sentinels (T5's released code would use ordinary ids).
    """
    starts = _starts(hidden)
    runs = int(starts.sum())
    if runs > len(sentinels):
        raise _too_few_sentinels(runs, len(sentinels))
    marked = text.copy()
    marked[starts] = sentinels[:runs]
    kept: Ids = marked[starts | ~hidden]
    return kept


def draws(seed: int, index: int) -> np.random.Generator:
    """The random generator of row `index`: one per row, so rows do not depend on earlier reads."""
    return np.random.Generator(np.random.PCG64([seed, index]))


def _starts(hidden: Mask) -> Mask:
    """True at the first token of each run of hidden tokens."""
    starts: Mask = hidden & ~np.concatenate([[False], hidden[:-1]])
    return starts


def _noise_and_spans(length: int, noise_density: float, mean_span: float) -> tuple[int, int]:
    noise = min(max(round(length * noise_density), 1), length - 1)
    # With much noise in short spans there can be fewer text tokens than spans; the released code fails then.
    return noise, min(max(round(noise / mean_span), 1), length - noise)


def _random_parts(total: int, parts: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Lengths of `parts` positive parts of `total`; every composition is equally likely."""
    cuts = 1 + np.sort(_shuffled(total - 1, generator)[: parts - 1])
    return np.diff(np.concatenate([[0], cuts, [total]]))


def _shuffled(count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return np.argsort(generator.random(count), kind="stable")


def _too_few_sentinels(needed: int, count: int) -> Exception:
    return CamelidError(
        f"a text needs {needed} sentinels but the vocabulary has {count}; use shorter sources, less "
        "noise or longer spans"
    )
