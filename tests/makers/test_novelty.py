"""The index decides as comparing with every text by rouge_score would, and heuristics as their rules say."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.makers.diversity import diversity, verb_and_noun
from camelid.makers.faults import fault_of
from camelid.makers.novelty import NoveltyIndex
from camelid.makers.seeds import read_seeds
from camelid.text.rouge import rouge_l

TEXTS = [task.instruction for task in read_seeds()]


def variant(text: str, rng: random.Random, vocabulary: list[str]) -> str:
    """The text with some words exchanged, added or left out."""
    found = text.split()
    for _ in range(rng.randint(1, max(1, len(found) // 2))):
        at, kind = rng.randrange(len(found)), rng.random()
        if kind < 0.5:
            found[at] = rng.choice(vocabulary)
        elif kind < 0.75:
            found.insert(at, rng.choice(vocabulary))
        elif len(found) > 3:
            found.pop(at)
    return " ".join(found)


def test_rouge_l_and_every_decision_equal_those_of_rouge_score() -> None:
    scoring = pytest.importorskip("rouge_score.rouge_scorer")
    scorer = scoring.RougeScorer(["rougeL"], use_stemmer=False)
    rng = random.Random(0)
    vocabulary = [word for text in TEXTS for word in text.split()]
    index, decided = NoveltyIndex(TEXTS[:60]), []
    for _ in range(80):
        text = variant(rng.choice(TEXTS), rng, vocabulary)
        values = [scorer.score(other, text)["rougeL"].fmeasure for other in index.texts]
        assert values == [rouge_l(other, text) for other in index.texts]  # 8,160 pairs, to the last bit
        found = index.similar(text)
        assert (found is not None) == any(value >= 0.7 for value in values)
        if found is None:
            index.add(text)
        else:
            assert found.rouge_l == next(value for value in values if value >= 0.7)
        decided.append(found is None)
    assert 10 < sum(decided) < 70


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=9), max_size=12), st.floats(0.05, 1))
def test_no_similar_text_is_missed(texts: list[list[str]], threshold: float) -> None:
    index = NoveltyIndex(threshold=threshold)
    for letters in texts:
        text = " ".join(letters)
        similar = [other for other in index.texts if rouge_l(text, other) >= threshold]
        found = index.similar(text)
        assert (found and found.text) == (similar[0] if similar else None)
        index.add(text)


@pytest.mark.parametrize(
    ("instruction", "pair"),
    [
        ("Write a short story about a dog.", ("write", "story")),
        ("Generate 5 blog titles for a bakery", ("generate", "title")),
        ("Give me an example of irony.", ("give", "example")),
        ("Rewrite the given sentence to be concise.", ("rewrite", "sentence")),
        ("Explain why the sky is blue.", ("explain", None)),
        ("What is the capital of Kenya?", ("what", None)),
        ("Given a text, extract all dates.", ("extract", "date")),
        ("Classify the cities, by country", ("classify", "city")),
        ("Compare cats and dogs.", ("compare", "cat")),
        ("Blue or green", None),
    ],
)
def test_verb_and_noun(instruction: str, pair: tuple[str, str | None] | None) -> None:
    assert verb_and_noun(instruction) == pair


def test_diversity_by_hand() -> None:
    found = diversity(["Write a poem.", "Write two poems!", "Write an essay.", "List ideas.", "Hm"])
    assert found == {
        "verbs": {
            "write": {"count": 3, "nouns": {"poem": 2, "essay": 1}},
            "list": {"count": 1, "nouns": {"idea": 1}},
        },
        "different_verbs": 2,
        "different_pairs": 3,
        "found": 0.8,
    }


def test_a_tail_that_repeats_a_few_words_is_a_loop_and_a_refrain_is_none() -> None:
    poem = "The boat is small, the wind is strong, we hoist the sail and sing along. "
    assert fault_of(poem + "To sail, " * 10) == "repeats itself"
    assert fault_of(poem + "To sail, to sail, to sail we go. " + poem + "To sail, to sail we go.") is None
    assert fault_of("no " * 9) is None
    assert fault_of("no " * 11) == "repeats itself"
