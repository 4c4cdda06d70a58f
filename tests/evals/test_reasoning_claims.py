"""The pure parts of bench/reasoning.py: the audit of chains, spoiled steps, and the corpus."""

import re

import pytest

from camelid.data.world.grammar import Dice
from camelid.data.world.splits import split_of
from camelid.tasks.item import Item

ITEM = Item("0", "Sam has 8 hats ...", "15", rationale="8 - 2 = 6. 6 + 9 = 15.")


@pytest.fixture
def chains(bench_module):
    return bench_module("reasoning_chains")


@pytest.fixture
def corpus(bench_module):
    return bench_module("reasoning_documents")


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("8 - 2 = 6. 6 + 9 = 15. The answer is 15.", "sound"),
        ("8 - 2 = 7. 7 + 9 = 15. The answer is 15.", "by chance"),
        ("8 + 7 = 15. The answer is 15.", "by chance"),
        ("The answer is 15.", "by chance"),
        ("8 - 2 = 5. 5 + 9 = 14. The answer is 14.", "calculator"),
        ("8 - 2 = 6. 6 + 9 = 16. The answer is 16.", "calculator"),
        # The answer is not what the chain comes to: no computation went wrong.
        ("8 - 2 = 6. 6 + 9 = 15. The answer is 6.", "broken"),
        # The second step begins with another number than the first one's result.
        ("8 - 2 = 6. 7 + 9 = 16. The answer is 16.", "broken"),
        ("8 + 2 = 10. 10 + 9 = 19. The answer is 19.", "symbols"),
        ("8 - 3 = 5. 5 + 9 = 14. The answer is 14.", "symbols"),
        ("8 - 3 = 5. 5 + 8 = 13. The answer is 13.", "broken"),
        # Two corrections: another number, and a wrong result.
        ("8 - 3 = 6. 6 + 9 = 16. The answer is 16.", "broken"),
        ("8 - 2 = 6. The answer is 6.", "step missing"),
        ("8 + 9 = 17. The answer is 17.", "step missing"),
        ("8 + 9 = 18. The answer is 18.", "broken"),
        ("8 - 2 = 6. 6 + 9 = 15. 15 + 1 = 16. The answer is 16.", "broken"),
        ("9 - 2 = 7. 7 + 9 = 16. The answer is 16.", "broken"),
        ("8 - 2 = 6. 6 + 9 = 15.", "no answer"),
        ("", "no answer"),
    ],
)
def test_a_chain_is_judged_by_the_true_steps(chains, reply, verdict):
    assert chains.audit(ITEM, reply) == verdict


def test_all_verdicts_are_reached_by_the_cases_above(chains):
    cases = test_a_chain_is_judged_by_the_true_steps.pytestmark[0].args[1]
    assert {verdict for _, verdict in cases} == set(chains.VERDICTS)


def test_shuffled_steps_are_the_same_in_another_order(chains):
    item = Item("0", "?", "7", rationale="4 - 3 = 1. 1 + 4 = 5. 5 + 9 = 14. 14 - 7 = 7.")
    for seed in range(20):
        mixed = chains.shuffled_steps(item, Dice(seed)).rationale
        assert mixed != item.rationale
        assert sorted(mixed.split(". ")) != []
        assert sorted(re.findall(r"[^.]+\.", mixed.replace(". ", "."))) == sorted(
            re.findall(r"[^.]+\.", item.rationale.replace(". ", "."))
        )


def test_one_step_cannot_be_shuffled(chains):
    item = Item("0", "?", "6", rationale="8 - 2 = 6.")
    assert chains.shuffled_steps(item, Dice(0)) == item


def test_wrong_steps_change_every_number_and_no_sign(chains):
    item = Item("0", "?", "9", rationale="Ann: 8 - 2 = 6. Bob: 6 + 3 = 9.")
    for seed in range(50):
        wrong = chains.wrong_steps(item, Dice(seed))
        numbers, true = (re.findall(r"\d+", text) for text in (wrong.rationale, item.rationale))
        assert len(numbers) == len(true)
        assert all(a != b and 0 <= int(a) <= 9 for a, b in zip(numbers, true, strict=True))
        assert re.sub(r"\d+", "", wrong.rationale) == re.sub(r"\d+", "", item.rationale)
        assert wrong.answer == "9"


def test_dots_are_as_many_as_characters_that_are_not_spaces(chains):
    assert chains.dots(ITEM).rationale == "...... ......."


def test_borrowed_steps_are_those_of_the_next_item(chains):
    items = [Item(str(at), "?", "1", rationale=f"step {at}.") for at in range(3)]
    assert [item.rationale for item in chains.borrowed_steps(items)] == ["step 1.", "step 2.", "step 0."]


def test_parts_of_a_list_use_the_answer_before(corpus):
    problem = corpus.drawn("last_letters", "train", Dice(0), 3)
    first, second = corpus.beginnings(problem)
    one, two, three = problem.names
    assert first.text() == (
        f"Q: Last letters of {one}, {two}?\nA: {one} ends in {one[-1]}. {two} ends in {two[-1]}. "
        f"The answer is {one[-1]} {two[-1]}."
    )
    assert second.text() == (
        f"Q: Last letters of {one}, {two}, {three}?\nA: {one}, {two} give {one[-1]} {two[-1]}. "
        f"{three} ends in {three[-1]}. The answer is {problem.answer}."
    )


def test_the_steps_of_every_problem_lead_to_its_answer(corpus, chains):
    for length in (2, 5, 8):
        for at in range(20):
            problem = corpus.sums(Dice(length, at), length)
            steps, told = chains.equations(problem.steps), re.findall(r"(gives|takes) (\d)", problem.question)
            total = int(re.findall(r"has (\d)", problem.question)[0])
            for (left, sign, right, result), (verb, number) in zip(steps, told, strict=True):
                total += int(number) if verb == "gives" else -int(number)
                assert (left + right if sign == "+" else left - right) == result == total
                assert (sign == "+", str(right)) == (verb == "gives", number)
                assert 0 <= total <= 9
            assert problem.answer == str(total)
            coin = corpus.coin_flip(Dice(length, at), length)
            assert (coin.question.count("flips") % 2 == 0) == (coin.answer == "yes")
            letters = corpus.last_letters(Dice(length, at), length)
            assert letters.answer.split() == [name[-1] for name in letters.names]


def test_questions_are_held_out_and_of_the_lengths_asked_for(corpus):
    for skill in corpus.SKILLS:
        asked = corpus.items(skill, "test", corpus.TRAINED, 12)
        assert [item.metadata["length"] for item in asked] == [2, 3, 4] * 4
        assert len({item.question for item in asked}) == 12
        trained = [corpus.drawn(skill, "train", Dice("x", at), 2 + at % 3) for at in range(30)]
        assert {split_of(problem.key) for problem in trained} == {"train"}
        assert not {item.question for item in asked} & {problem.question for problem in trained}


def test_a_document_asks_one_skill_in_one_way(corpus):
    for index in range(60):
        text = corpus.document(Dice("documents", index))
        answers = re.findall(r"\n(?:A|Answer|Solution): (.*)", text)
        assert len(answers) == len(text.split("\n\n"))
        assert len({" The answer is " in answer for answer in answers}) == 1
