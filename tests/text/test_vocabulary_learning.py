"""Learnt vocabularies: every string comes back, transformers gives the same ids, sentinels stand where T5
has them."""

from itertools import islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from camelid.base.errors import WrongCall
from camelid.data import world
from camelid.text.stream import StreamDecoder, token_bytes
from camelid.text.tokenizer import Tokenizer, load_tokenizer, train_tokenizer

TEXTS = ["the cat sat on the mat and the dog ran to the cat. ▁ It's 12:34\n\n  naïve café — 你好 🦙\r\n"] * 9
planes = st.integers(0, 16)
characters = planes.flatmap(lambda plane: st.integers(plane << 16, (plane << 16) + 0xFFFF)).filter(
    lambda point: not 0xD800 <= point <= 0xDFFF
)
every_plane = st.lists(st.one_of(characters.map(chr), st.sampled_from(" \n▁<>0xA\u0301aé")), max_size=30).map(
    "".join
)


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def ours(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(TEXTS, 420, kind=request.param, sentinels=5)


@given(text=every_plane)
@example("<0x0A><|endoftext|><unk><extra_id_0>▁ ▁")
@example(" \t\n\r\x00\x85\u2028\ufeff\ufffd")
def test_every_string_of_every_plane_survives(ours: Tokenizer, text: str):
    ids = ours.encode(text)
    assert ours.decode(ids) == text
    assert b"".join(token_bytes(ours, index) for index in ids) == text.encode()
    assert not set(ids) & set(ours.special_ids.values())
    stream = StreamDecoder(ours)
    assert "".join([stream.push(index) for index in ids]) + stream.finish() == text


def test_every_code_point_survives(ours: Tokenizer):
    text = "".join(chr(point) for point in range(0x110000) if not 0xD800 <= point <= 0xDFFF)
    for start in range(0, len(text), 1 << 16):
        block = text[start : start + (1 << 16)]
        assert ours.decode(ours.encode(block)) == block


def test_transformers_reads_it_to_the_same_ids(ours: Tokenizer, tmp_path):
    from transformers import AutoTokenizer

    ours.save(tmp_path)
    theirs, again = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    for text in (TEXTS[0], " a  b ", "", "𝔘𝔫𝔦 \U00010348 \U0010ffff <0x0A> 2026"):
        ids = ours.encode(text, special_tokens=True)
        assert theirs(text)["input_ids"] == ids == again.encode(text, special_tokens=True)
        assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids) == text
    marked = "a <extra_id_0> b<extra_id_4>"
    assert theirs(marked)["input_ids"] == ours.encode(marked, special_tokens=True, markup=True)


def test_sentinels_are_the_last_ids_the_first_highest(ours: Tokenizer):
    last = ours.vocab_size - 1
    assert [ours.special_ids[f"<extra_id_{k}>"] for k in range(5)] == [last - k for k in range(5)]
    assert ours.vocab_size <= 420
    assert [ours.special_ids[name] for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")] == [0, 1, 2]


def test_unigram_learns_words_and_the_same_ones_again():
    stories = list(islice(world.stories("train", 0), 200))
    first, second, third = (train_tokenizer(stories, 600, kind="unigram") for _ in range(3))
    assert first.digest == second.digest == third.digest
    assert 500 < first.vocab_size <= 600
    assert first.unk_id == 3
    pieces = {text for text in (first.backend.id_to_token(index) for index in range(260, 600)) if text}
    assert {" the", " was"} <= pieces
    assert all(first.decode(first.encode(story)) == story for story in stories[:20])


def test_characters_beyond_the_coverage_are_spelt_in_bytes():
    rare = [chr(0x4E00 + number) for number in range(2000)]
    tokenizer = train_tokenizer([TEXTS[0] * 50, "".join(rare)], 500, kind="unigram")
    assert tokenizer.vocab_size <= 500
    assert tokenizer.decode(tokenizer.encode(rare[-1])) == rare[-1]


@pytest.mark.parametrize("texts", [[], [""], ["a"], ["aaaa"] * 5])
def test_next_to_nothing_to_learn_from(texts: list[str]):
    tokenizer = train_tokenizer(texts, 300, kind="unigram")
    assert tokenizer.decode(tokenizer.encode("ab 🦙")) == "ab 🦙"


def test_too_small_is_refused():
    with pytest.raises(WrongCall, match="270"):
        train_tokenizer(["a"], 265, kind="unigram", sentinels=10)
    with pytest.raises(WrongCall, match="allowed: bpe, unigram"):
        train_tokenizer(["a"], 400, kind="wordpiece")  # type: ignore[arg-type]
