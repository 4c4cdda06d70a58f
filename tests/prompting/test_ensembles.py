"""Votes against numbers worked by hand."""

import math
from collections.abc import Sequence

import pytest

from camelid.base.errors import WrongCall
from camelid.lm.interface import LM, Completion, Prompt, Score
from camelid.lm.sampling import Sampling
from camelid.prompting.attempt import Attempt, Readings
from camelid.prompting.ensembles import WEIGHTINGS, best_of_n, elect, self_consistency
from camelid.prompting.programs import chain_of_thought, direct
from camelid.tasks.item import Item

WARM = Sampling(temperature=0.7)
QUESTION = Item("1", "How many?", "18")


class Drawn(LM):
    """Gives the n-th sample of every prompt the n-th text, with given log-probabilities of its tokens."""

    def __init__(self, *texts: tuple[str, Sequence[float]]) -> None:
        self.texts = texts
        self.calls = 0

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        self.calls += 1
        drawn = [
            Completion(text, tuple(range(len(logs))), tuple(logs), "stop")
            for text, logs in self.texts[: sampling.samples]
        ]
        return [drawn for _ in prompts]

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        raise NotImplementedError


def read(question: object, text: str) -> Readings:
    """The text after `is`, and the last word."""
    _, marker, after = text.partition(" is ")
    return {
        "strict": after or None if marker else None,
        "lenient": text.split()[-1] if text.split() else None,
    }


REPLIES = (
    ("It is 26", [-1.0, -1.0]),
    ("It is 18", [-3.0, -1.0]),
    ("no idea", [-0.1]),
    ("So it is 18.", [-2.0, -2.0, -2.0]),
    ("Hence 26", [-5.0]),
)


def test_the_most_frequent_answer_of_each_reading_wins():
    lm = Drawn(*REPLIES)
    [attempt] = self_consistency(direct(sampling=WARM), 5)(lm, [QUESTION], read)
    assert lm.calls == 1
    assert [each.text for each in attempt.samples] == [text for text, _ in REPLIES]
    # strict: 26 once, 18 twice; lenient: 26 twice, 18 twice, so the one drawn first
    assert attempt.elected == {"strict": 1, "lenient": 0}
    assert attempt.text == "It is 18"
    assert attempt.tokens == 9


def test_weights_are_those_of_the_paper():
    answers = ["a", "b", "b"]
    logs = [[-1.0], [-2.0], [-4.0, -4.0]]
    lm = Drawn(*((f"it is {answer}", log) for answer, log in zip(answers, logs, strict=True)))
    sums = {"a": math.exp(-1), "b": math.exp(-2) + math.exp(-8)}
    normalised = {"a": math.exp(-1), "b": math.exp(-2) + math.exp(-4)}
    expected = {
        "majority": "b",
        "sum": max(sums, key=lambda key: sums[key]),
        "normalised_sum": max(normalised, key=lambda key: normalised[key]),
        "average": "a",
        "normalised_average": "a",
    }
    assert set(expected) == set(WEIGHTINGS)
    for weighting, winner in expected.items():
        [attempt] = self_consistency(direct(sampling=WARM), 3, weighting)(lm, [QUESTION], read)  # type: ignore[arg-type]
        assert answers[attempt.elected["strict"]] == winner, weighting


def test_sums_of_very_small_probabilities_do_not_vanish():
    lm = Drawn(("it is a", [-900.0]), ("it is b", [-901.0]), ("it is b", [-900.5]))
    [attempt] = self_consistency(direct(sampling=WARM), 3, "sum")(lm, [QUESTION], read)
    # e^-1 + e^-0.5 = 0.97 < 1
    assert attempt.elected["strict"] == 0


def test_answers_that_nobody_gives_have_no_vote():
    lm = Drawn(("none", [-1.0]), ("", [-1.0]))
    [attempt] = self_consistency(direct(sampling=WARM), 2)(lm, [QUESTION], read)
    assert attempt.elected == {"lenient": 0}


@pytest.mark.parametrize(
    ("answers", "weights", "winner"),
    [
        ([None, None], [1, 1], None),
        ([None, "b"], [9, 1], 1),
        (["A.", "b", "a"], [1, 1.5, 1], 0),
        (["a", "b"], [1, 1], 0),
        (["b  c", "B c", "a"], [1, 1, 1.9], 0),
    ],
)
def test_elect(answers, weights, winner):
    assert elect(answers, weights) == winner


def test_two_stages_are_sampled_together():
    lm = Drawn(("one", [-1.0]), ("two", [-1.0]))
    [attempt] = self_consistency(chain_of_thought(sampling=WARM), 2)(lm, [QUESTION], read)
    assert lm.calls == 2
    assert [each.completions for each in attempt.samples] == [("one", "one"), ("two", "one")]


def test_best_of_n_takes_the_highest_score():
    lm = Drawn(*REPLIES)
    scores = [0.1, 0.3, 0.9, 0.2, 0.8]
    [attempt] = best_of_n(direct(sampling=WARM), lambda question, attempts: scores, 5)(lm, [QUESTION])
    assert attempt.text == "no idea"
    assert attempt.elected == {}
    assert len(attempt.samples) == 5


def test_the_best_can_vote():
    def scorer(question: object, attempts: Sequence[Attempt]) -> list[float]:
        return [0.9, 0.8, 0.1, 0.7, 0.0]

    [attempt] = best_of_n(direct(sampling=WARM), scorer, 5, voters=3)(Drawn(*REPLIES), [QUESTION], read)
    assert attempt.elected == {"strict": 1, "lenient": 1}


def test_wrong_settings_are_refused():
    with pytest.raises(WrongCall, match="greedily"):
        self_consistency(direct(), 3)
    with pytest.raises(WrongCall, match="at least 1"):
        self_consistency(direct(sampling=WARM), 0)
    with pytest.raises(WrongCall, match="majority, sum"):
        self_consistency(direct(sampling=WARM), 3, "loudest")  # type: ignore[arg-type]
    with pytest.raises(WrongCall, match="read"):
        self_consistency(direct(sampling=WARM), 2)(Drawn(*REPLIES), [QUESTION])
    with pytest.raises(WrongCall, match="voters"):
        best_of_n(direct(sampling=WARM), lambda question, attempts: [], 2, voters=3)
    unknown = Drawn(("it is a", ()), ("it is b", ()))
    with pytest.raises(WrongCall, match="log-probabilities"):
        self_consistency(direct(sampling=WARM), 2, "sum")(unknown, [QUESTION], read)


def test_titles_are_words_and_names_stay() -> None:
    steps = chain_of_thought(sampling=WARM)
    vote = self_consistency(steps, 4)
    assert (vote.name, vote.title) == (
        "self_consistency_4.chain_of_thought", "self-consistency (4 samples) over chain of thought"
    )  # fmt: skip
    weighted = self_consistency(direct(sampling=WARM), 4, "normalised_sum")
    assert weighted.title == "self-consistency (4 samples by normalised sum) over direct"
    assert best_of_n(steps, lambda *_: [], 8, voters=3).title == (
        "best of 8, vote of the best 3 over chain of thought"
    )
