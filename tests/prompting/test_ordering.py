"""GlobalE and LocalE, against numbers worked by hand."""

from math import log

import pytest

from camelid.base.errors import WrongCall
from camelid.lm.interface import Prompt
from camelid.lm.scripted import ScriptedLM
from camelid.prompting.asking import CONTINUATION
from camelid.prompting.ordering import global_entropy, local_entropy, order_entropies, probing_questions
from camelid.prompting.programs import likelihood
from camelid.tasks.item import Item

GOOD = Item("g", "Fine.", "yes", choices=("yes", "no"))
BAD = Item("b", "Dull.", "no", choices=("yes", "no"))


def test_global_entropy_by_hand() -> None:
    assert global_entropy(["yes", "yes", "yes", "no"]) == pytest.approx(0.75 * log(4 / 3) + 0.25 * log(4))
    assert global_entropy(["yes", "no"]) == pytest.approx(log(2))
    assert global_entropy(["no"] * 5) == 0


def test_local_entropy_by_hand() -> None:
    assert local_entropy([[0.5, 0.5], [1.0, 0.0]]) == pytest.approx(log(2) / 2)
    assert local_entropy([[0.25] * 4]) == pytest.approx(log(4))


def test_the_model_writes_a_question_after_each_order() -> None:
    lm = ScriptedLM([" Warm.\nA: yes", "Warm.", "", "Cold. \n\nQ: more"])
    orders = [(GOOD, BAD), (BAD, GOOD), (GOOD,), (BAD,)]
    assert probing_questions(lm, orders) == ["Warm.", "Cold."], "empty and repeated ones are left out"
    assert lm.prompts[0] == "Q: Fine.\nA: yes\n\nQ: Dull.\nA: no\n\nQ:"
    with pytest.raises(WrongCall, match="before and after the question"):
        probing_questions(lm, orders, CONTINUATION)


def test_the_entropies_of_an_order() -> None:
    """P(yes) is 0.8 after "Warm." and 0.4 after "Cold.": one prediction each, so GlobalE is log 2."""

    def logprob(prompt: Prompt, continuation: str) -> float:
        yes = 0.8 if "Warm" in str(prompt) else 0.4
        return log(yes if continuation.strip() == "yes" else 1 - yes)

    program = likelihood([GOOD, BAD])
    found = order_entropies(ScriptedLM([], logprob), program, ["Warm.", "Cold."], ["yes", "no"])
    one, other = 0.8 * log(1 / 0.8) + 0.2 * log(1 / 0.2), 0.4 * log(1 / 0.4) + 0.6 * log(1 / 0.6)
    assert found == pytest.approx((log(2), (one + other) / 2))
    with pytest.raises(WrongCall, match="no probing questions"):
        order_entropies(ScriptedLM([]), program, [], ["yes", "no"])
