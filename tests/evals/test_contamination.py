"""Contamination against planted questions and a brute-force search."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from camelid.evals.contamination import Contamination, contamination, ngram_size
from camelid.tasks.item import Item

STORY = (
    "Every morning the old miller walked slowly along the river "
    "and counted all the wooden boats that slept there"
)


def search(items: list[Item], documents: list[str]) -> list[Contamination]:
    return contamination(items, [(text, str(number)) for number, text in enumerate(documents)])


def kinds(items: list[Item], documents: list[str]) -> set[tuple[str, int, str]]:
    return {(found.item, int(found.where), found.kind) for found in search(items, documents)}


def test_a_planted_question_is_found_whatever_its_names_case_and_punctuation() -> None:
    items = [Item("1", "Where did Tom hide the red ball?", "there"), Item("2", "Who is it?", "me")]
    assert kinds(items, ["Nothing.", "Q: Where did Ann hide the red ball? A: there"]) == {
        ("1", 1, "question")
    }
    assert kinds(items, ["Where did Tom hide the red-ball!"]) == {("1", 0, "question")}
    assert kinds(items, ["where did tom hide the red ball"]) == {("1", 0, "question")}
    assert kinds(items, ["Where did the red ball hide?"]) == set()


def test_a_question_of_little_but_names_is_found_by_its_own_names_alone() -> None:
    """A capitalised first word counts as a name, so that three and four words are left of these two."""
    items = [
        Item("1", "Who was king after John Smith?", "me"),
        Item("2", "Who was then king after Smith?", "me"),
    ]
    texts = ["He was king after Ann Lee.", "He was then king after Lee.", "Who was king after john smith?"]
    assert kinds(items, texts) == {("2", 1, "question"), ("1", 2, "question")}


def test_a_long_common_run_is_found_and_a_shorter_one_is_not() -> None:
    item = Item("1", f"{STORY}. How many were there in the end?", "9")
    assert ngram_size([item]) == 13
    words = STORY.split()
    found = search([item], [f"And so {' '.join(words[:12])} away", f"And so {' '.join(words[2:15])} away"])
    assert [(each.where, each.kind) for each in found] == [("1", "n-gram")]
    assert found[0].words == " ".join(words[2:15]).lower()


def test_ngram_size_is_the_fifth_percentile_within_8_and_13() -> None:
    lengths = [Item(str(n), " ".join(["word"] * n), "x") for n in range(1, 101)]
    assert ngram_size(lengths) == 8
    assert ngram_size(lengths[4:]) == 9
    assert ngram_size(lengths[50:]) == 13


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_search_equals_brute_force(seed: int) -> None:
    dice = random.Random(seed)

    def text(length: int) -> str:
        return " ".join(dice.choice("ab") for _ in range(length))

    items = [Item(str(n), text(dice.randrange(1, 7)), "x") for n in range(5)]
    documents = [text(dice.randrange(0, 20)) for _ in range(3)]
    expected = {
        item.id
        for item in items
        if len(item.question.split()) >= 4
        and any(f" {item.question} " in f" {document} " for document in documents)
    }
    assert {found.item for found in search(items, documents)} == expected


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_long_runs_and_their_lines_equal_brute_force(seed: int) -> None:
    """Questions of 13 and more words, of which a document holds some stretches, its words on lines of
    their own."""
    dice = random.Random(seed)
    items = [
        Item(str(n), " ".join(f"{'abc'[n]}{i}" for i in range(dice.randrange(13, 20))), "x") for n in range(3)
    ]
    size = ngram_size(items)
    lines: list[str] = []
    for _ in range(4):
        words = dice.choice(items).question.split()
        start = dice.randrange(len(words))
        lines += [*words[start : start + dice.randrange(1, 20)], "between"]
    expected = {}
    for item in items:
        for line in range(len(lines) - size + 1):
            run = " ".join(lines[line : line + size])
            if f" {run} " in f" {item.question} ":
                expected.setdefault(item.id, (line, run))
    found = [one for one in search(items, ["\n".join(lines)]) if one.kind == "n-gram"]
    assert {one.item: (one.line, one.words) for one in found} == expected


def test_an_item_is_told_once_where_it_first_occurs() -> None:
    item = Item("1", "Where did Tom hide the red ball?", "there")
    text = "İ\nNothing.\n\n  Where did Ann hide the red ball. Where did Mia hide the red ball?"
    assert search([item], ["Nothing.", text, text]) == [
        Contamination("1", "1", 3, "question", "where did tom hide the red ball")
    ]
