"""No held-out question, story or conversation is in training, nor differs from one only by a name.

Names are blotted out by a pattern of this file's own, so that the check does not lean on the code that
splits.
"""

import re
from itertools import islice

import pytest

from camelid.data.world import SKILLS, conversations, documents, items, stories
from camelid.data.world.bible import CAST, GUESTS, PET_NAMES
from camelid.data.world.items import DIRECT, THINK
from camelid.data.world.smalltalk import CONTINUE

HELD_OUT = ("validation", "test", "longer")
_NAMES = {*CAST, *GUESTS, *PET_NAMES}
_WORD = re.compile(r"\b[A-Z]\w*")
_LEAD = re.compile("|".join(re.escape(lead) for lead in sorted(CONTINUE, key=len, reverse=True) if lead))


def blot(text: str) -> str:
    """The text with every name as `_`: texts that differ in any number of names only become equal."""
    return _WORD.sub(lambda word: "_" if word.group() in _NAMES else word.group(), text)


def bare(question: str) -> str:
    """The question without its cue."""
    return question.removesuffix(THINK).removesuffix(DIRECT).strip()


def wildcards(question: str) -> set[str]:
    """The question with each of its names in turn as `_`: two questions share one if they differ in one
    name."""
    names = (word for word in _WORD.finditer(question) if word.group() in _NAMES)
    return {question[: name.start()] + "_" + question[name.end() :] for name in names}


def training_questions(documents_read: int, conversations_read: int) -> set[str]:
    """Every question put in training: in documents after `Q:` or a speaker, in conversations by the user."""
    asked = set()
    for text in islice(documents("train"), documents_read):
        asked |= {
            bare(line.split(": ", 1)[1]) for line in text.split("\n") if re.match(r"(Q|[A-Z][a-z]+): ", line)
        }
    for talk in islice(conversations("train"), conversations_read):
        asked |= {bare(message.content) for message in talk.messages if message.role == "user"}
    return asked | {_LEAD.sub("", question, count=1) for question in asked if _LEAD.match(question)}


def check_skill(skill: str, trained: int, held_out: int) -> None:
    """Compare `held_out` questions of every held-out split with `trained` training questions."""
    train = [item.question for item in items(skill, "train", trained)]
    forms = set().union(*map(wildcards, train)) if skill == "last_letters" else set(map(blot, train))
    for split in HELD_OUT:
        if split == "longer" and not SKILLS[skill].longer:
            continue
        for item in items(skill, split, held_out):
            near = wildcards(item.question) if skill == "last_letters" else {blot(item.question)}
            assert not near & forms, item


@pytest.mark.parametrize("skill", [skill for skill in SKILLS if skill != "story_questions"])
def test_no_held_out_question_is_near_a_training_question(skill):
    check_skill(skill, trained=1_500, held_out=100)


@pytest.mark.slow
@pytest.mark.parametrize("skill", ["coin_flip", "last_letters", "comparison", "sums"])
def test_no_held_out_question_is_near_any_of_many_training_questions(skill):
    check_skill(skill, trained=50_000, held_out=300)


@pytest.mark.parametrize("read", [4_000, pytest.param(25_000, marks=pytest.mark.slow)])
def test_questions_are_held_out_of_documents_and_conversations_too(read):
    asked = training_questions(read, read)
    forms = set(map(blot, asked))
    assert len(forms) > read
    for skill in SKILLS:
        for split in ("validation", "test"):
            for item in items(skill, split, 100):
                assert item.question not in asked
                assert skill == "last_letters" or blot(item.question) not in forms, item


@pytest.mark.parametrize("read", [4_000, pytest.param(25_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("source", [stories, documents, conversations])
def test_no_held_out_text_is_a_training_text_with_other_names(source, read):
    def texts(split, count):
        return (blot(str(text)) for text in islice(source(split), count))

    train = set(texts("train", read))
    for split in HELD_OUT:
        assert train.isdisjoint(texts(split, min(read // 12, 1_000))), split


def test_longer_stories_and_conversations_are_longer():
    def mean(source, split):
        return sum(len(str(text)) for text in islice(source(split), 100)) / 100

    assert mean(stories, "longer") > 2 * mean(stories, "test")
    assert mean(conversations, "longer") > 2 * mean(conversations, "test")
