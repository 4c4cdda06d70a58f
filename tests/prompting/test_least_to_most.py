"""The exact prompts of both stages, in order."""

import pytest

from camelid.base.errors import WrongCall
from camelid.lm.scripted import ScriptedLM
from camelid.prompting.least_to_most import (
    LIST,
    Decomposed,
    Decomposition,
    last_sentence,
    least_to_most,
    parts_of,
)
from camelid.tasks.item import Item

APPLES = Decomposed(
    "Elsa has 5 apples. Anna has 2 more. How many have both?",
    ("How many apples does Anna have?", "How many have both?"),
    ("Anna has 5 + 2 = 7. The answer is 7.", "Both have 5 + 7 = 12. The answer is 12."),
)
SLIDE = Item("1", "Amy climbs in 4 minutes and slides in 1. It closes in 15. How often can she slide?", "3")


def test_a_word_problem_is_broken_down_and_solved_in_order():
    lm = ScriptedLM(
        [
            ' To answer the question "How often can she slide?", we need to know: "How long is a trip?".',
            " A trip takes 5 minutes. The answer is 5.",
            " 15 / 5 = 3. The answer is 3.",
        ]
    )
    [attempt] = least_to_most(Decomposition((APPLES,), (APPLES,)))(lm, [SLIDE])
    listed = (
        f'Q: {APPLES.question}\nA: To answer the question "How many have both?", we need to know: '
        f'"How many apples does Anna have?".\n\nQ: {SLIDE.question}\nA:'
    )
    first = (
        f"{APPLES.question}\n\nQ: {APPLES.parts[0]}\nA: {APPLES.replies[0]}\n\n"
        f"Q: {APPLES.parts[1]}\nA: {APPLES.replies[1]}\n\n{SLIDE.question}\n\nQ: How long is a trip?\nA:"
    )
    second = f"{first} A trip takes 5 minutes. The answer is 5.\n\nQ: How often can she slide?\nA:"
    assert lm.prompts == [listed, first, second]
    assert attempt.prompts == (listed, first, second)
    assert attempt.text == " 15 / 5 = 3. The answer is 3."


WORDS = Decomposed(
    '"think, machine, learning"',
    ("think, machine", "think, machine, learning"),
    ('"think, machine" outputs "ke".', '"think, machine" outputs "ke". With "g": "keg".'),
)


def beginnings(question: object) -> list[str]:
    words = question.question.split(", ")
    return [", ".join(words[:count]) for count in range(2, len(words) + 1)]


def test_parts_that_follow_from_the_question_are_not_asked_for():
    lm = ScriptedLM([' "a, b" outputs "ab".', ' "a, b" outputs "ab". With "c": "abc".'])
    program = least_to_most(Decomposition((WORDS,), wording=LIST, parts=beginnings))
    [attempt] = program(lm, [Item("1", "a, b, c", "abc")])
    assert [str(prompt).rsplit("Q: ", 1)[1] for prompt in lm.prompts] == ["a, b\nA:", "a, b, c\nA:"]
    assert str(lm.prompts[1]).startswith(str(lm.prompts[0]) + ' "a, b" outputs "ab".\n\nQ: ')
    assert attempt.text.endswith('"abc".')


@pytest.mark.parametrize(
    ("reply", "parts"),
    [
        ('To answer "x?", we need to know: "a?", "b?".', ["a?", "b?", "x?"]),
        ('"a?", "a?", " "', ["a?", "x?"]),
        ("I do not know.", ["x?"]),
        ('we need to know: "x?".', ["x?"]),
        (", ".join(f'"{number}"' for number in range(99)), [*map(str, range(20)), "x?"]),
    ],
)
def test_parts_of(reply, parts):
    assert parts_of(reply, "x?") == parts


def test_last_sentence():
    assert last_sentence("It costs $1.50 now. How much is it?") == "How much is it?"
    assert last_sentence("How much?") == "How much?"


def test_incomplete_exemplars_are_refused():
    with pytest.raises(WrongCall, match="2 parts and 0 replies"):
        Decomposition((Decomposed(APPLES.question, APPLES.parts),), (APPLES,))
    with pytest.raises(WrongCall, match="exemplars of both stages"):
        Decomposition((APPLES,))
