"""Contextual calibration, against numbers worked by hand."""

from math import exp, isclose, log
from pathlib import Path

import pytest

from camelid.base.errors import WrongCall
from camelid.evals.evaluate import evaluate
from camelid.lm.interface import Prompt
from camelid.lm.scripted import ScriptedLM
from camelid.prompting.asking import Draw
from camelid.prompting.calibration import CONTENT_FREE, calibrate, content_free_priors
from camelid.prompting.programs import likelihood
from camelid.tasks.graders import choice
from camelid.tasks.item import Item
from camelid.tasks.task import Task

REVIEWS = (
    Item("good", "A fine film.", "positive", choices=("positive", "negative")),
    Item("bad", "A dull film.", "negative", choices=("positive", "negative")),
)


def test_the_priors_are_the_mean_probabilities_normalised() -> None:
    """Means of (0.5, 0.1), (0.3, 0.1) and (0.4, 0.4) are 0.4 and 0.2: priors 2/3 and 1/3."""
    rows = [[log(0.5), log(0.1)], [log(0.3), log(0.1)], [log(0.4), log(0.4)]]
    assert [exp(value) for value in content_free_priors(rows)] == pytest.approx([2 / 3, 1 / 3])


def test_the_paper_s_example() -> None:
    """Section 5: a prior of 61.8 % positive; a reply of 60 % positive is then negative: W = diag(p_cf)^-1."""
    found = calibrate([log(0.6), log(0.4)], [log(0.618), log(0.382)])
    positive, negative = 0.6 / 0.618, 0.4 / 0.382
    assert found == pytest.approx([positive / (positive + negative), negative / (positive + negative)])
    assert found[1] > found[0]


def test_a_content_free_text_is_calibrated_to_equal_shares() -> None:
    rows = [[-3.0, -7.0, -1.0]]
    assert calibrate(rows[0], content_free_priors(rows)) == pytest.approx([1 / 3] * 3)


def test_long_choices_do_not_underflow() -> None:
    priors = content_free_priors([[-2000.0, -2001.0], [-2000.0, -2001.0]])
    assert isclose(priors[0] - priors[1], 1.0)
    assert sum(map(exp, priors)) == pytest.approx(1)


def biased(prompt: Prompt, continuation: str) -> float:
    """Prefers positive by 2 nats, and what the review says by 1."""
    last = str(prompt).rsplit("Q: ", 1)[1]
    says = "positive" if "fine" in last else "negative" if "dull" in last else ""
    word = continuation.strip()
    return -5.0 + 2 * (word == "positive") + (word == says)


def test_a_biased_model_is_right_after_calibration(tmp_path: Path) -> None:
    task = Task("reviews", "1", REVIEWS, choice)
    shown = [Item("e", "A great film.", "positive", choices=("positive", "negative"))]
    program = likelihood(shown, content_free=CONTENT_FREE)
    result = evaluate(task, program, ScriptedLM([], biased), tmp_path, model="m")
    assert result.grades("accuracy") == [True, False]
    assert result.grades("accuracy_calibrated") == [True, True]
    [score, other] = result.records[0].attempt.scores
    assert score.content_free is not None
    assert other.content_free is not None
    assert score.content_free - other.content_free == pytest.approx(2.0)
    assert evaluate(task, program, ScriptedLM([]), tmp_path, model="m").records == result.records, "resumed"


def test_the_prompts_hold_the_content_free_texts() -> None:
    asked: list[str] = []

    def record(prompt: Prompt, continuation: str) -> float:
        asked.append(f"{prompt}|{continuation}")
        return -1.0

    likelihood(content_free=CONTENT_FREE)(ScriptedLM([], record), REVIEWS[:1])
    assert asked[2:] == [
        f"Q: {text}\nA:| {word}" for text in ("N/A", "", "[MASK]") for word in ("positive", "negative")
    ]


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(WrongCall, match="leave out drawn exemplars"):
        likelihood(REVIEWS, content_free=CONTENT_FREE, draw=Draw(1))
    ends = Item("w", "?", "a", choices=("a", "b"), contexts=("x", "y"), endings=("e", "f"))
    with pytest.raises(WrongCall, match="without calibration"):
        likelihood(content_free=CONTENT_FREE)(ScriptedLM([]), [ends])


def test_evaluations_without_calibration_keep_their_digest() -> None:
    assert "content_free" not in likelihood().settings
    assert likelihood(content_free=CONTENT_FREE).settings["content_free"] == list(CONTENT_FREE)
