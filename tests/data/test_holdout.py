"""What is held out: a partition of the text that depends on the text alone."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.base.errors import CamelidError, WrongCall
from camelid.data.rows.holdout import SECTION_CHARACTERS, hold_out_documents, sections


def documents(count: int, size: int = 50) -> list[tuple[str, str]]:
    return [(f"document {i} " * (size // 10), f"file:{i + 1}") for i in range(count)]


def held_out(rows: list[tuple[str, str]], fraction: float) -> set[str]:
    return {text for text, split, _ in hold_out_documents(rows, fraction) if split == "validation"}


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=9), st.sampled_from("abc"))),
    st.sampled_from([0, 1e-9]),
)
def test_every_character_is_in_one_split(rows: list[tuple[str, str]], fraction: float):
    if len({text for text, _ in rows}) < 2:
        return
    assert Counter((text, where) for text, _, where in hold_out_documents(rows, fraction)) == Counter(rows)


def test_the_choice_does_not_depend_on_order():
    rows = documents(500)
    mixed = random.Random(0).sample(rows, len(rows))
    assert held_out(rows, 0.1) == held_out(mixed, 0.1)
    assert 25 <= len(held_out(rows, 0.1)) <= 80


def test_equal_documents_stay_together():
    rows = documents(40) * 3
    train = {text for text, split, _ in hold_out_documents(rows, 0.001) if split == "train"}
    assert held_out(rows, 0.001)
    assert not train & held_out(rows, 0.001)


def test_one_long_book_gives_a_validation_set():
    book = "\n\n".join(f"Paragraph {i}. " + "word " * 90 for i in range(400))
    assert "".join(sections(book)) == book
    pieces = list(hold_out_documents([(book, "book.txt")], 0.05))
    assert {split for _, split, _ in pieces} == {"train", "validation"}
    assert all(text in book for text, _, _ in pieces)
    assert sum(len(text) for text, _, _ in pieces) == len(book)


@given(st.integers(0, 5 * SECTION_CHARACTERS), st.sampled_from(["a", "a ", "a\n", "a\n\n"]))
def test_sections_join_to_the_text(length: int, unit: str):
    text = unit * (length // len(unit))
    assert "".join(sections(text)) == text


def test_too_little_text_says_so():
    with pytest.raises(CamelidError, match=r"a\.txt.*validation_fraction to 0"):
        list(hold_out_documents([("short", "a.txt")], 0.1))
    with pytest.raises(WrongCall, match="validation_fraction"):
        list(hold_out_documents(documents(3), 1.5))
