"""Our exemplars for BIG-Bench Hard: read right by the tasks' grader, none of them asked, and true."""

import re
from collections.abc import Sequence
from string import ascii_uppercase

import pytest

from camelid.prompting.expressions import value_of
from camelid.tasks.item import Item
from camelid.tasks.reasoning.big_bench_hard import PROMPTS, TASKS, big_bench_hard
from camelid.tasks.task import load_task

EXEMPLARS = [(name, item) for name in TASKS for item in big_bench_hard(name).exemplars]


def asked(name: str) -> list[Item]:
    return [item for task, item in EXEMPLARS if task == name]


def shown(item: Item) -> str:
    """The answer as a prompt shows it."""
    if item.choices and item.lettered:
        return f"({ascii_uppercase[item.choices.index(item.answer)]})"
    return item.answer


def test_every_task_has_at_least_three() -> None:
    assert {len(big_bench_hard(name).exemplars) for name in PROMPTS} == {3}
    assert all(len(big_bench_hard(name).exemplars) >= 3 for name in TASKS)


@pytest.mark.parametrize(("name", "item"), EXEMPLARS, ids=[f"{name}-{item.id}" for name, item in EXEMPLARS])
def test_each_is_graded_right_by_every_reading(name: str, item: Item) -> None:
    dataset = big_bench_hard(name)
    assert dataset.paper is not None
    assert item.rationale
    reply = f"{item.rationale} So the answer is {shown(item)}."
    for grades in (dataset.grader(item, reply), dataset.grader(item, shown(item))):
        assert all(grade.correct for grade in grades.values())
    assert dataset.paper.grade(item, reply).correct
    for other in (
        each for each in asked(name) if each.answer != item.answer and each.choices == item.choices
    ):
        assert not any(grade.correct for grade in dataset.grader(other, reply).values()), other


@pytest.mark.parametrize("name", TASKS)
def test_none_is_among_the_questions(name: str, shared) -> None:
    path = shared / "data/reasoning/bbh/bbh_all_tasks.json.gz"
    if not path.is_file():
        pytest.skip("no questions of BIG-Bench Hard in ../shared/data/reasoning/bbh")
    task = load_task(f"bbh/{name}", data=path)
    assert not {item.asked for item in task.exemplars} & task.questions


def by_words(text: str) -> bool:
    """The value of a boolean expression: brackets first, then not, and, or."""
    while "(" in text:
        text = re.sub(r"\( ([^()]*) \)", lambda m: str(by_words(m[1])), text)
    while "not " in text:
        text = re.sub(r"not (True|False)", lambda m: str(m[1] != "True"), text)
    return any(all(word == "True" for word in part.split(" and ")) for part in text.split(" or "))


def closing(text: str) -> str:
    opened: list[str] = []
    for sign in text.split():
        if sign in "([{<":
            opened.append(sign)
        else:
            assert "([{<".index(opened.pop()) == ")]}>".index(sign)
    return " ".join(")]}>"["([{<".index(sign)] for sign in reversed(opened))


def walked(text: str) -> complex:
    place, facing = 0j, 1j
    for words in re.findall(r"Take (\d+) steps?(?: (\w+))?|(Turn \w+)", text):
        count, side, turn = words
        turns = {"Turn left": 1j, "Turn right": -1j, "Turn around": -1}
        facing *= turns.get(turn, 1)
        steps = {"left": 1j, "right": -1j, "backward": -1, "forward": 1}
        place += int(count or 0) * facing * steps.get(side, 1)
    return place


def hat(text: str) -> str:
    names = re.findall(r"(\w+) (?:has|had) a (\w+) one", text)
    hats = dict(names)
    for one, other in re.findall(r"(\w+) and (\w+) swap", text):
        hats[one], hats[other] = hats[other], hats[one]
    return hats[re.findall(r"that (\w+) has is", text)[0]]


def truthful(text: str) -> str:
    says: dict[str, bool] = {}
    for who, told, other, truth, fact in re.findall(
        r"(\w+) (?:says (\w+) ((?:tells the truth)|(?:lies))|((?:tells the truth)|(?:lies))())\.", text
    ):
        says[who] = truth == "tells the truth" if truth else says[told] == (other == "tells the truth")
        assert not fact
    return "Yes" if says[re.findall(r"Does (\w+) tell", text)[0]] else "No"


def test_what_can_be_computed_is_true() -> None:
    for item in asked("boolean_expressions"):
        assert item.answer == str(by_words(item.question.removesuffix(" is"))), item.question
    for item in asked("multistep_arithmetic_two"):
        assert value_of(item.question.removesuffix(" =")) == int(item.answer), item.question
    for item in asked("dyck_languages"):
        assert item.answer == closing(item.question.partition("Input: ")[2]), item.question
    for item in asked("navigate"):
        assert item.answer == ("No" if walked(item.question) else "Yes"), item.question
    for item in asked("word_sorting"):
        assert item.answer.split() == sorted(item.question.partition("List: ")[2].split())
    for item in [
        *asked("tracking_shuffled_objects_five_objects"), *asked("tracking_shuffled_objects_seven_objects")
    ]:  # fmt: skip
        assert item.answer == hat(item.question), item.question
    for item in asked("web_of_lies"):
        assert item.answer == truthful(item.question), item.question


def places(answers: Sequence[Item]) -> set[str]:
    return {shown(item) for item in answers}


def test_the_right_choice_stands_in_different_places() -> None:
    for name in PROMPTS:
        items = asked(name)
        if items[0].lettered:
            assert len(places(items)) > 1, name
