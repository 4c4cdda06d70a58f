"""Requests of many questions are made together, and samples of one prompt are different ones."""

from collections.abc import Sequence

import pytest

from camelid.lm.interface import LM, Completion, Prompt, Score
from camelid.lm.sampling import Sampling
from camelid.prompting.steps import Steps, generated, run, scored, side_by_side


class Counting(LM):
    """Answers a prompt with its number of words and the sample's number, and keeps every batch."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[Prompt], int]] = []

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        self.batches.append((list(prompts), sampling.samples))
        return [
            [
                Completion(f"{len(str(prompt).split())}.{sample}", (7,) * (sample + 1), (-1.0,), "stop")
                for sample in range(sampling.samples)
            ]
            for prompt in prompts
        ]

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        self.batches.append((list(prompts), 0))
        return [Score(-len(each), 1, False) for each in continuations]


HOW = Sampling(temperature=0.5)


def two(first: str) -> Steps[str]:
    one = yield from generated(first, HOW)
    other = yield from generated(f"{first} {one.text} more", HOW)
    return f"{one.text} {other.text}"


def test_steps_of_all_questions_are_batches():
    lm = Counting()
    assert run(lm, [two("a"), two("b c")]) == ["1.0 3.0", "2.0 4.0"]
    assert lm.batches == [(["a", "b c"], 1), (["a 1.0 more", "b c 2.0 more"], 1)]


def test_equal_questions_get_equal_replies_from_one_request():
    lm = Counting()
    assert run(lm, [two("a"), two("a")]) == ["1.0 3.0"] * 2
    assert lm.batches[0] == (["a"], 1)


def test_samples_of_a_question_are_one_request_and_differ():
    lm = Counting()
    [results] = run(lm, [side_by_side([two("a") for _ in range(3)], samples=True)])
    assert results == ["1.0 3.0", "1.1 3.0", "1.2 3.0"]
    assert lm.batches == [(["a"], 3), (["a 1.0 more", "a 1.1 more", "a 1.2 more"], 1)]


def test_samples_of_samples_all_differ():
    def single() -> Steps[str]:
        reply = yield from generated("a", HOW)
        return reply.text

    def inner() -> Steps[list[str]]:
        return side_by_side([single(), single()], samples=True)

    lm = Counting()
    [results] = run(lm, [side_by_side([inner(), inner()], samples=True)])
    assert results == [["1.0", "1.1"], ["1.2", "1.3"]]
    assert lm.batches == [(["a"], 4)]


def test_a_short_question_does_not_wait_for_a_long_one():
    def short() -> Steps[str]:
        return "at once"
        yield

    assert run(Counting(), [short(), two("a")]) == ["at once", "1.0 3.0"]


def test_scores_are_requested_once():
    def choose() -> Steps[list[float]]:
        scores = yield from scored(["p", "p"], ["yes", "no"])
        return [score.logprob for score in scores]

    lm = Counting()
    assert run(lm, [choose(), choose()]) == [[-3, -2], [-3, -2]]
    assert lm.batches == [(["p", "p"], 0)]


def test_errors_of_a_question_reach_the_caller():
    def fails() -> Steps[str]:
        yield from generated("a", HOW)
        raise ValueError("seen")

    with pytest.raises(ValueError, match="seen"):
        run(Counting(), [fails()])
