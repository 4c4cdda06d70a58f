"""The world is deterministic, true to its own bible, and every answer is what an independent solver finds."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from itertools import islice

import pytest
from world_solvers import SOLVERS, STEPS_HOLD

from camelid.base.errors import WrongCall
from camelid.data.world import SKILLS, SPLITS, conversations, documents, items, stories, task_row
from camelid.data.world.bible import CHILDREN, PEOPLE
from camelid.data.world.facts import COMMON_FACTS, PERSONAL_FACTS, facts_about
from camelid.data.world.grammar import Dice, listed, polished, render
from camelid.data.world.items import DIRECT, THINK
from camelid.data.world.lexicon import KINDS

ASKED = [(skill, split) for skill in SKILLS for split in SPLITS if split != "longer" or SKILLS[skill].longer]


@pytest.mark.parametrize("split", SPLITS)
def test_the_same_arguments_give_the_same_text(split):
    for source in (stories, documents, conversations):
        assert list(islice(source(split, 3), 20)) == list(islice(source(split, 3), 20))
        assert list(islice(source(split, 3), 20)) != list(islice(source(split, 4), 20))


def test_the_text_does_not_depend_on_the_hash_seed():
    program = (
        "import hashlib, itertools, camelid.data.world as w;"
        "t = repr([list(itertools.islice(f('train', 1), 40)) for f in (w.stories, w.documents, "
        "w.conversations)]);"
        "t += repr([w.items(s, 'test', 20) for s in w.SKILLS]);"
        "print(hashlib.sha256(t.encode()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(runs) == 1


@pytest.mark.parametrize(("skill", "split"), [pair for pair in ASKED if pair[0] in SOLVERS])
def test_answers_are_what_an_independent_solver_finds(skill, split):
    for item in items(skill, split, 150):
        assert SOLVERS[skill](item.question) == item.answer, item
        assert STEPS_HOLD[skill](item.question, item.steps, item.answer), item


@pytest.mark.parametrize(("skill", "split"), ASKED)
def test_lengths_cues_and_rows(skill, split):
    known = SKILLS[skill]
    low, high = known.longer if split == "longer" else known.lengths
    found = items(skill, split, 60)
    assert {item.length for item in found} <= set(range(low, high + 1))
    assert len({item.question for item in found}) == 60
    for asked, cue in ((True, THINK), (False, DIRECT)):
        for item in items(skill, split, 10, steps=asked):
            assert item.question.endswith(cue)
            assert bool(item.steps) == (asked and known.has_steps)
            assert item.reply.endswith(f"The answer is {item.answer}.") == bool(item.steps)
    for item in found:
        row = json.loads(json.dumps(task_row(item)))
        assert set(row) - {"choices"} == {"id", "question", "answer", "grader"}
        assert (known.grader == "choice") == ("choices" in row)
        assert item.choices is None or item.answer in item.choices


def test_wrong_calls_name_the_way_out():
    with pytest.raises(WrongCall, match="allowed: coin_flip"):
        items("chess", "test", 1)
    with pytest.raises(WrongCall, match="longer than in training"):
        items("facts", "longer", 1)
    with pytest.raises(WrongCall, match="different questions; 100000 were requested"):
        items("facts", "test", 100_000)


def test_exactly_one_option_is_of_the_asked_kind():
    for item in items("kinds", "test", 200):
        (kind,) = [kind for kind in KINDS if f"is {kind}" in item.question]
        assert [option for option in item.choices if option in KINDS[kind]] == [item.answer]
        assert all(option in item.question.lower() for option in item.choices)


def _readings():
    """Every way of asking a fact, without address, and its answer."""
    answers = defaultdict(set)
    for fact in (*PERSONAL_FACTS, *COMMON_FACTS):
        dice = Dice("readings", fact.x, fact.relation.name)
        for _ in range(40):
            answers[fact.ask(dice)].add(fact.value)
    return answers


def test_facts_have_one_answer_and_chains_reduce_to_them():
    answers = _readings()
    assert all(len(values) == 1 for values in answers.values()), [q for q, v in answers.items() if len(v) > 1]
    bare = sorted(answers, key=len, reverse=True)
    for item in items("facts", "test", 150):
        asked = next(question for question in bare if question in item.question)
        assert answers[asked] == {item.answer}
    for split in ("test", "longer"):
        for item in items("chains", split, 100):
            assert answers[_reduced(item.question, bare)] == {item.answer}, item.question


def _reduced(question: str, bare: list[str]) -> str:
    """The question with `Mia's best friend` and the like replaced by a name, from the inside out."""
    step = re.compile(r"\b([A-Z][a-z]+)'s (best friend|mother|father|child)\b")
    while not any(reading in question for reading in bare):
        name, word = step.search(question).groups()
        person = PEOPLE[name]
        to = {
            "best friend": person.friend,
            "child": next((child.name for child in CHILDREN if child.parent == name), ""),
        }
        question = step.sub(to.get(word, person.parent), question, count=1)
    return next(reading for reading in bare if reading in question)


TRUE = {
    "Mia": {"pet": "a cat", "age": "9", "home": "in the bakery", "friend": "Tom"},
    "Sam": {"pet name": "Star", "parent": "Vera", "home": "in the house on the square"},
    "Jack": {"job": "farmer", "children": "Tom and Lily"},
}


@pytest.mark.parametrize("name", TRUE)
def test_what_the_bible_says(name):
    assert {kind: facts_about(name)[kind].value for kind in TRUE[name]} == TRUE[name]


def test_friends_are_mutual():
    assert all(PEOPLE[person.friend].friend == person.name for person in PEOPLE.values())


@pytest.mark.parametrize("split", SPLITS)
def test_stories_agree_with_the_bible(split):
    """Read pets, ages, parents, homes, traits and hobbies back from the stories, and find one value a
    child."""
    patterns = {
        "pet": r"(\w+) was \d+ years old.* had a (\w+) called",
        "pet name": r"lived (\w+) and (?:his|her) \w+ (\w+)\.",
        "age": r"(\w+) was (\d+) years old",
        "parent": r"(\w+), the (?:son|daughter) of (\w+) ",
        "home": r"(\w+) was \d+ years old and lived ([^.]*)\.",
        "trait": r"(?:a|an) (\w+ (?:boy|girl)) called (\w+)\.",
        "friend": r"^(\w+) was .* best friend was (\w+)\.",
        "hobby": r"lived (\w+) and .*? and loved ([^.]*)\.",
    }
    read = {kind: defaultdict(set) for kind in patterns}
    for story in islice(stories(split), 1500):
        for kind, pattern in patterns.items():
            for one, other in re.findall(pattern, story.split("\n")[0]):
                name, value = (other, one.split()[0]) if kind == "trait" else (one, other)
                read[kind][name].add(value)
    for kind, values in read.items():
        assert set(values) == {child.name for child in CHILDREN}, kind
        for name, found in values.items():
            fact = facts_about(name).get(kind)
            expected = PEOPLE[name].trait if fact is None else fact.value.removeprefix("a ")
            assert found == {expected}, (kind, name)


def test_answers_about_a_story_stand_in_it():
    for item in items("story_questions", "test", 300):
        story, _, question = item.question.rpartition("\n")
        told = set(re.findall(r"\w+", story.lower()))
        asked = set(re.findall(r"\w+", question.lower()))
        added = {"because", "had", "they", "she", "he", "his", "her", "in", "at", "to", "for", "learn", "s"}
        assert set(re.findall(r"\w+", item.answer.lower())) <= told | asked | added, item


def test_every_fact_is_stated_in_training():
    text = "\n".join(islice(documents("train"), 30_000))
    for fact in (*PERSONAL_FACTS, *COMMON_FACTS):
        dice = Dice("stated", fact.x, fact.relation.name)
        wordings = {fact.state(dice) for _ in range(20)}
        assert any(wording in text for wording in wordings), wordings


def test_templates():
    dice = Dice("templates")
    assert {render("a[|b|[c|{d}]]", dice, {"d": "[e|f]"}) for _ in range(200)} == {
        "a",
        "ab",
        "ac",
        "ae",
        "af",
    }
    assert (
        polished('the  day came. "who is it?" he asked. nobody.')
        == 'The day came. "Who is it?" he asked. Nobody.'
    )
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"], "or")] == ["a", "a and b", "a, b or c"]
    with pytest.raises(KeyError):
        render("{missing}", dice)
