"""Training of vocabularies, as backends of the `tokenizers` library: byte-level BPE and unigram.

Both split words as GPT-2 does, with every digit separate, and decode every string back byte for byte.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, get_args

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from camelid.base.errors import WrongCall
from camelid.text.vocabulary import sentinels

VocabularyKind = Literal["bpe", "unigram"]
UNKNOWN = "<unk>"
BYTE_NAMES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's regular expression; the library applies it by itself only for byte-level vocabularies."""
COVERAGE = 0.9995
"""Share of the text whose characters get a piece (SentencePiece's default); the rest is encoded in bytes."""
LARGEST_ALPHABET = 0.5
"""Largest share of the free entries that single characters may take."""


LONGEST_TEXT = 1 << 14
"""Characters given to the library at a time, which takes about a hundred bytes for each."""
_WORD_START = re.compile(r"\S(?= )")


def first_bytes(texts: Iterable[str], size: int) -> Iterator[str]:
    """The beginning of the texts, up to the first border of words after `size` bytes."""
    for text in texts:
        for part in _short(text):
            yield part
            size -= len(part.encode())
            if size <= 0:
                return


def _short(text: str) -> Iterator[str]:
    """The text in parts of `LONGEST_TEXT` characters, cut before the space of a word: the words stay the
    same.

    Text without such a place is cut where the part is twice as long.
    """
    start = 0
    while len(text) - start > 2 * LONGEST_TEXT:
        found = _WORD_START.search(text, start + LONGEST_TEXT, start + 2 * LONGEST_TEXT)
        end = found.end() if found else start + 2 * LONGEST_TEXT
        yield text[start:end]
        start = end
    yield text[start:]


def learn_vocabulary(
    texts: Iterable[str],
    vocab_size: int,
    kind: VocabularyKind,
    *,
    special: Sequence[str],
    sentinel_count: int,
    min_frequency: int,
) -> tokenizers.Tokenizer:
    """Trains at most `vocab_size` ids: `special`, the bytes, the trained pieces, the sentinels.

    Raises `WrongCall` if special tokens, bytes and sentinels already exceed that.
    """
    if kind not in get_args(VocabularyKind):
        raise WrongCall(f"kind is {kind!r}; allowed: bpe, unigram")
    fixed = len(special) + (kind == "unigram") + 256 + sentinel_count
    if vocab_size < fixed:
        raise WrongCall(
            f"vocab_size is {vocab_size}; 256 bytes and {fixed - 256} special tokens need at least {fixed}"
        )
    texts = (part for text in texts for part in _short(text))
    if kind == "bpe":
        backend = _learn_bpe(texts, vocab_size - sentinel_count, special, min_frequency)
    else:
        backend = _learn_unigram(texts, vocab_size - sentinel_count, special)
    if sentinel_count:
        backend.add_special_tokens(sentinels(sentinel_count))
    return backend


def _learn_bpe(
    texts: Iterable[str], vocab_size: int, special: Sequence[str], min_frequency: int
) -> tokenizers.Tokenizer:
    """BPE (Sennrich et al. 2016, arXiv 1508.07909, algorithm 1) over bytes (Radford et al. 2019, 2.2)."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _learn_unigram(texts: Iterable[str], vocab_size: int, special: Sequence[str]) -> tokenizers.Tokenizer:
    """Unigram (Kudo 2018, arXiv 1804.10959, section 3.2), with byte fallback.

    Unlike in SentencePiece, a space stays a space: `▁` would be ambiguous if the text contains it. Words are
    split so that none contains the name of a byte or of a special token; no text becomes one.
    """
    texts = list(texts)
    reserved = [*special, UNKNOWN, *BYTE_NAMES]
    alphabet = _alphabet(texts, int((vocab_size - len(reserved)) * LARGEST_ALPHABET))
    learner = tokenizers.Tokenizer(models.Unigram())
    words = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Split(Regex(WORDS), "isolated")]
    )
    learner.pre_tokenizer = words
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=reserved, unk_token=UNKNOWN, show_progress=False
    )
    learner.train_from_iterator(_covered(texts, alphabet), trainer)
    trained = json.loads(learner.to_str())["model"]["vocab"][len(reserved) :]
    scores = _settled({piece: round(score, 6) for piece, score in trained}, alphabet)
    pieces = sorted(scores.items(), key=lambda one: (-one[1], one[0]))
    vocabulary = [(token, 0.0) for token in reserved] + pieces
    backend = tokenizers.Tokenizer(models.Unigram(vocabulary, len(special), byte_fallback=True))
    backend.pre_tokenizer = words
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens([*special, UNKNOWN])
    return backend


def _settled(scores: dict[str, float], alphabet: Sequence[str]) -> dict[str, float]:
    """Scores that do not depend on the library's hash table order, which differs between processes.

    The library sums in that order; rounding to six digits (by the caller) removes the effect. Characters left
    without a score by its pruning get the lowest score plus successive multiples of 0.0001, also in hash
    order; here the more frequent character gets the higher one.
    """
    single = [character for character in alphabet if character in scores]
    highest = min((scores[character] for character in single), default=0.0) + 0.0001 * len(single)
    rare = [character for character in single if scores[character] <= highest]
    return scores | dict(zip(rare, sorted((scores[one] for one in rare), reverse=True), strict=True))


def _alphabet(texts: Sequence[str], most: int) -> list[str]:
    """The most frequent characters in order, as many as make up `COVERAGE` of the text, at most `most`."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    wanted, covered = COVERAGE * counts.total(), 0
    alphabet: list[str] = []
    for character, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:most]:
        if covered >= wanted:
            break
        alphabet.append(character)
        covered += count
    return alphabet


def _covered(texts: Iterable[str], alphabet: Sequence[str]) -> Iterator[str]:
    """The spans of the texts that consist of characters of `alphabet`."""
    if not alphabet:
        return
    stretches = re.compile(f"[{''.join(map(re.escape, alphabet))}]+")
    for text in texts:
        yield from stretches.findall(text)
