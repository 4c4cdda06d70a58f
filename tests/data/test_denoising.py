"""Denoising against examples by hand and the published lengths; what is taken apart can be put together
again."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camelid.base.errors import CamelidError, WrongCall
from camelid.data.rows.denoising import (
    RESERVED,
    Denoising,
    Marks,
    draws,
    iid_noise_mask,
    random_spans_lengths,
    random_spans_noise_mask,
    with_sentinels,
)
from camelid.text.tokenizer import Tokenizer, train_tokenizer

SIZE, EOS = 1000, 1
MARKS = Marks(np.arange(SIZE - 1, SIZE - 301, -1), EOS, SIZE)
TEXTS = st.lists(st.integers(RESERVED, 600), min_size=2, max_size=300).map(np.array)
KINDS = ("span", "iid", "drop", "bert", "mass", "deshuffle", "prefix_lm")


class Drawn:
    """A generator whose uniform numbers are known."""

    def __init__(self, *numbers: list[float]):
        self.numbers = list(numbers)

    def random(self, count: int) -> np.ndarray:
        numbers = self.numbers.pop(0)
        assert len(numbers) == count
        return np.array(numbers)


def runs(ids: np.ndarray) -> list[list[int]]:
    """The stretches between sentinels, empty ones left out."""
    stretches: list[list[int]] = [[]]
    for index in ids.tolist():
        if index in MARKS.sentinels:
            stretches.append([])
        else:
            stretches[-1].append(index)
    return [stretch for stretch in stretches if stretch]


def put_together(source: np.ndarray, target: np.ndarray) -> list[int]:
    """The text of a source and a target, EOS taken away, whose runs take turns."""
    text, noise = runs(source), runs(target)
    first, second = (noise, text) if source[0] in MARKS.sentinels else (text, noise)
    whole = []
    for turn in range(max(len(first), len(second))):
        whole += first[turn] if turn < len(first) else []
        whole += second[turn] if turn < len(second) else []
    return whole


@pytest.mark.parametrize(
    ("inputs", "raw", "target"), [(512, 568, 114), (256, 284, 58), (128, 141, 29), (1024, 1137, 229)]
)
def test_lengths_are_the_published_ones(inputs: int, raw: int, target: int):
    assert random_spans_lengths(inputs) == (raw, target)
    source, targets = Denoising().corrupt(np.full(raw, 5), draws(0, 0), MARKS)
    assert (len(source), len(targets)) == (inputs, target)


@settings(deadline=None)
@given(st.integers(3, 900), st.sampled_from([0.1, 0.15, 0.25, 0.4]), st.sampled_from([2.0, 3.0, 5.0, 10.0]))
def test_the_raw_length_is_the_longest_that_fits(inputs: int, density: float, span: float):
    way = Denoising("span", density, span)
    raw, target = random_spans_lengths(inputs, density, span)
    source, targets = way.corrupt(np.full(raw, 5), draws(0, 0), MARKS)
    assert len(source) <= inputs
    assert len(targets) == target
    longer, _ = way.corrupt(np.full(raw + 1, 5), draws(0, 0), MARKS)
    assert len(longer) > inputs


def test_at_one_half_source_and_target_are_about_as_long():
    """767 tokens, 384 of them noise in 128 spans, make 512 and 513; so the released code takes one less."""
    assert random_spans_lengths(512, 0.5, 3.0) == (766, 512)


def test_span_corruption_by_hand():
    """Of ten tokens three are noise, in two spans of 2 and 1; the text between is cut into 2 and 5."""
    known = Drawn([0.9, 0.1], [0.5, 0.1, 0.2, 0.9, 0.8, 0.7])
    source, target = Denoising("span", 0.3, 1.5).corrupt(np.arange(10, 20), known, MARKS)
    assert source.tolist() == [10, 11, 999, 14, 15, 16, 17, 18, 998, EOS]
    assert target.tolist() == [999, 12, 13, 998, 19, EOS]


def test_the_figure_of_the_paper():
    """Thank you [for inviting] me to your party [last] week: figure 2, with the sentinel that closes the
    target."""
    text = np.arange(10, 20)
    noise = np.isin(text, [12, 13, 18])
    assert with_sentinels(text, noise, MARKS.sentinels).tolist() == [10, 11, 999, 14, 15, 16, 17, 998, 19]
    assert with_sentinels(text, ~noise, MARKS.sentinels).tolist() == [999, 12, 13, 998, 18, 997]


@settings(deadline=None)
@given(
    st.integers(2, 700),
    st.floats(0.01, 0.99),
    st.floats(1, 12),
    st.integers(0, 1000),
)
def test_span_masks_have_fixed_counts_and_end_in_noise(length: int, density: float, span: float, seed: int):
    mask = random_spans_noise_mask(length, draws(seed, 0), density, span)
    noise = min(max(round(length * density), 1), length - 1)
    assert len(mask) == length
    assert mask.sum() == noise
    starts = mask & ~np.concatenate([[False], mask[:-1]])
    assert starts.sum() == min(max(round(noise / span), 1), length - noise)
    assert not mask[0]
    assert mask[-1]


def test_a_single_token_is_not_hidden():
    assert random_spans_noise_mask(1, draws(0, 0)).tolist() == [False]


def test_every_way_to_cut_is_equally_likely():
    """Six tokens, three of them noise in two spans: 2 x 2 masks, each a quarter of the time."""
    counts = Counter(
        tuple(random_spans_noise_mask(6, draws(0, index), 0.5, 1.5).tolist()) for index in range(4000)
    )
    assert len(counts) == 4
    assert all(abs(count - 1000) < 6 * (4000 * 0.25 * 0.75) ** 0.5 for count in counts.values())


def test_single_tokens_are_noise_at_the_rate_that_is_asked_for():
    mask = iid_noise_mask(200_000, draws(0, 0), 0.15)
    assert abs(mask.mean() - 0.15) < 6 * (0.15 * 0.85 / 200_000) ** 0.5
    assert abs((mask[1:] & mask[:-1]).mean() - 0.15**2) < 0.005


@settings(deadline=None)
@given(TEXTS, st.sampled_from(["span", "iid"]), st.integers(0, 100))
def test_source_and_target_make_the_text(text: np.ndarray, kind: str, index: int):
    source, target = Denoising(kind, 0.3, 2.0).corrupt(text, draws(0, index), MARKS)
    assert source[-1] == target[-1] == EOS
    assert put_together(source[:-1], target[:-1]) == text.tolist()
    for ids in (source, target):
        written = [index for index in ids.tolist() if index in MARKS.sentinels]
        assert written == MARKS.sentinels[: len(written)].tolist()


@settings(deadline=None)
@given(TEXTS, st.integers(0, 100))
def test_the_other_kinds(text: np.ndarray, index: int):
    parts = {kind: Denoising(kind).corrupt(text, draws(0, index), MARKS) for kind in KINDS}
    assert all(source[-1] == target[-1] == EOS for source, target in parts.values())
    without_eos = {kind: (source[:-1], target[:-1]) for kind, (source, target) in parts.items()}
    for kind in ("bert", "mass", "deshuffle"):
        assert without_eos[kind][1].tolist() == text.tolist()
    assert sorted(without_eos["deshuffle"][0].tolist()) == sorted(text.tolist())
    beginning, rest = without_eos["prefix_lm"]
    assert [*beginning, *rest] == text.tolist()
    assert len(beginning) >= 1
    assert len(rest) >= 1
    # Of the same draws the same tokens are noise.
    noise = iid_noise_mask(len(text), draws(0, index))
    assert without_eos["drop"][0].tolist() == text[~noise].tolist()
    assert without_eos["drop"][1].tolist() == text[noise].tolist()
    assert without_eos["mass"][0].tolist() == np.where(noise, 999, text).tolist()
    assert without_eos["bert"][0][~noise].tolist() == text[~noise].tolist()


def test_bert_takes_a_sentinel_nine_times_of_ten():
    text = np.full(100_000, 2)
    source, _ = Denoising("bert").corrupt(text, draws(0, 0), MARKS)
    changed = source[:-1][source[:-1] != 2]
    share = (changed == 999).mean()
    assert abs(len(changed) / len(text) - 0.15) < 0.01
    assert abs(share - 0.9) < 6 * (0.9 * 0.1 / len(changed)) ** 0.5
    drawn = changed[changed != 999]
    assert drawn.min() >= RESERVED
    assert drawn.max() < SIZE
    assert len(np.unique(drawn)) > 500


def test_a_prefix_may_end_anywhere():
    lengths = Counter(
        len(Denoising("prefix_lm").corrupt(np.arange(5, 9), draws(0, index), MARKS)[0]) - 1
        for index in range(3000)
    )
    assert set(lengths) == {1, 2, 3}
    assert min(lengths.values()) > 850


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_token_is_no_trouble(kind: str):
    source, target = Denoising(kind).corrupt(np.array([7]), draws(0, 0), MARKS)
    assert {7} <= {*source.tolist(), *target.tolist()}


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 10), st.integers(0, 10))
def test_seed_and_index_say_it_all(kind: str, seed: int, index: int):
    text = np.arange(10, 200)
    once, again = (Denoising(kind).corrupt(text, draws(seed, index), MARKS) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
    other = Denoising(kind).corrupt(text, draws(seed, index + 1), MARKS)
    assert not all(np.array_equal(a, b) for a, b in zip(once, other, strict=True))


def test_corruption_never_changes():
    source, target = Denoising("span", 0.3, 2.0).corrupt(np.arange(10, 30), draws(0, 0), MARKS)
    assert source.tolist() == [10, 11, 12, 13, 14, 15, 16, 999, 20, 21, 998, 23, 24, 25, 26, 27, 997, 1]
    assert target.tolist() == [999, 17, 18, 19, 998, 22, 997, 28, 29, 1]


def test_too_few_sentinels_are_refused_beforehand_and_at_work():
    few = Marks(MARKS.sentinels[:20], EOS, SIZE)
    with pytest.raises(CamelidError, match="needs 28 sentinels but the vocabulary has 20"):
        Denoising().check_sentinels(568, 20)
    Denoising().check_sentinels(568, 28)
    with pytest.raises(CamelidError, match="28 sentinels"):
        Denoising().corrupt(np.full(568, 5), draws(0, 0), few)
    with pytest.raises(CamelidError, match="the vocabulary has 100"):
        Denoising("iid").check_sentinels(1023, 100)
    Denoising("iid").check_sentinels(511, 100)  # T5's baseline
    Denoising("drop").check_sentinels(511, 0)


def test_chance_does_not_run_out_of_sentinels():
    """Of 511 tokens about 65 are spans of noise: every second mask has more."""
    few = Marks(MARKS.sentinels[:66], EOS, SIZE)
    for index in range(100):
        source, target = Denoising("iid").corrupt(np.full(511, 5), draws(0, index), few)
        assert max(np.isin(ids, few.sentinels).sum() for ids in (source, target)) <= 66
    with pytest.raises(CamelidError, match="the vocabulary has 20"):
        Denoising("iid").corrupt(np.full(511, 5), draws(0, 0), Marks(MARKS.sentinels[:20], EOS, SIZE))


def test_impossible_ways_are_refused():
    with pytest.raises(WrongCall, match="allowed: span, iid"):
        Denoising("spam")
    with pytest.raises(WrongCall, match="noise_density is 1"):
        Denoising(noise_density=1)
    with pytest.raises(WrongCall, match="mean_span is 0"):
        Denoising(mean_span=0)
    with pytest.raises(WrongCall, match="too short"):
        random_spans_lengths(2)


def test_the_sentinels_of_a_tokenizer_count_down_from_its_last_id():
    plain = train_tokenizer(["a text"], 300)
    with pytest.raises(CamelidError, match="no sentinels"):
        Marks.of(plain)
    plain.backend.add_special_tokens([f"<extra_id_{number}>" for number in reversed(range(100))])
    marks = Marks.of(Tokenizer(plain.backend, plain.config))
    assert marks.vocab_size == plain.vocab_size + 100
    assert marks.sentinels.tolist() == [marks.vocab_size - 1 - k for k in range(100)]
    assert marks.eos_id == plain.eos_id
