"""Stories of the village: a plot is drawn, cast with people of the bible, and told."""

from collections.abc import Iterator
from dataclasses import dataclass

from camelid.data.world.bible import CHILDREN, GROWN_UPS, PEOPLE, PRONOUNS, Person, parent_word
from camelid.data.world.grammar import Dice, polished, render
from camelid.data.world.plot import Plot
from camelid.data.world.plots_at_home import PLOTS_AT_HOME
from camelid.data.world.plots_of_wishes import PLOTS_OF_WISHES
from camelid.data.world.plots_on_the_road import PLOTS_ON_THE_ROAD
from camelid.data.world.problem import Problem
from camelid.data.world.splits import Split, belongs

PLOTS = (*PLOTS_AT_HOME, *PLOTS_OF_WISHES, *PLOTS_ON_THE_ROAD)
LONGER_EPISODES = (2, 3)  # a trained story has one episode

_INTRODUCTION = (
    "[Once there was|In Willowby there lived|Once upon a time there was] a {trait} {girl} called {hero}. "
    "{he} lived {home} with {his} {parent_word} {parent}."
    "|{hero} was {age} years old and lived {home}. {he} loved {hobby}, "
    "and {he} had a {pet} called {pet_name}."
    "|{hero} was a {trait} {girl} of {age} years. {his} best friend was {best_friend}."
    "|{hero}, the {child_word} of {parent} the {parent_job}, was a {trait} {girl}. {he} loved {hobby}."
    "|In the village of Willowby lived {hero} and {his} {pet} {pet_name}. "
    "{hero} was {trait} and loved {hobby}."
    "|Do you know {hero}? {he} is a {trait} {girl} who lives {home}."
)
_TIME = (
    "one [morning|day|afternoon]|one [spring|summer|autumn] [morning|day]|one sunny [morning|day|afternoon]"
    "|last [Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday]|on a [warm|fine|bright] [morning|day]"
)
_ON_THE_WAY = (
    "|||On the way they met {passer} the {passer_job}, who [waved at them|wished them luck"
    "|gave each of them a nut]."
    '|{passer} the {passer_job} saw them and called, "Good luck!"'
    "|They hummed a little song as they went.|They walked fast and did not talk."
)
_NEXT_EPISODE = (
    "[The next day|A week later|Soon after that|One month later], {hero} had another adventure."
    "|[But that was not all that happened to {hero}.|And {hero} had more to tell.]"
)


@dataclass(frozen=True)
class Story:
    """A finished story: its text, what it is about, its name-blind key, and questions with their answers."""

    text: str
    about: str
    summary: str
    key: str
    hero: str
    questions: tuple[tuple[str, str], ...]


def _as_role(role: str, person: Person) -> dict[str, str]:
    pronouns = PRONOUNS[person.he]
    return {role: person.name, **{f"{role}_{case}": pronouns[case] for case in ("he", "him", "his")}}


_BY_JOB = {person.job: person for person in GROWN_UPS}
_EVERYBODY = {
    **{slot: value for person in GROWN_UPS for slot, value in _as_role(person.job, person).items()},
    "doctor_home": _BY_JOB["doctor"].home.removeprefix("in "),
    "teacher_of_all": _BY_JOB["teacher"].name,
    "on_the_way": f"[{_ON_THE_WAY}]",
    "time": f"[{_TIME}]",
    "any_time": f"[{_TIME}]",
}


def _cast(dice: Dice, hero: Person) -> dict[str, str]:
    """The slots that a hero brings along: itself, its parent, a friend and two more children."""
    best = PEOPLE[hero.friend]
    others = dice.sample([child for child in CHILDREN if child not in (hero, best)], 3)
    friend = best if dice.chance(0.6) else others[2]
    parent = PEOPLE[hero.parent]
    passer = dice.pick([person for person in GROWN_UPS if person is not parent])
    return {
        **_EVERYBODY,
        **PRONOUNS[hero.he],
        **_as_role("friend", friend),
        **_as_role("parent", parent),
        **_as_role("rival", others[0]),
        "hero": hero.name,
        "trait": hero.trait,
        "age": hero.age,
        "home": hero.home,
        "food": hero.food,
        "hobby": hero.hobby,
        "pet": hero.pet,
        "pet_name": hero.pet_name,
        "best_friend": best.name,
        "friend_colour": friend.colour,
        "friend_food": friend.food,
        "parent_word": parent_word(hero),
        "parent_job": parent.job,
        "winner": others[1].name,
        "passer": passer.name,
        "passer_job": passer.job,
    }


@dataclass(frozen=True)
class _Draft:
    """A plot with one row drawn from each table, not yet told; the key names the rows but no person."""

    plot: Plot
    key: str
    slots: dict[str, str]


def _draft(dice: Dice, plot: Plot) -> _Draft:
    drawn = [dice.pick(table) for table in plot.tables]
    slots = {slot: cell for row in drawn for slot, cell in row.items()}
    key = "|".join((plot.name, *(next(iter(row.values())) for row in drawn)))
    for slot, job in tuple(slots.items()):
        if slot.endswith("_job"):
            slots |= _as_role(slot.removesuffix("_job"), _BY_JOB[job])
    return _Draft(plot, key, slots)


def _draft_of(dice: Dice, split: Split) -> _Draft:
    while True:
        draft = _draft(dice, dice.pick(PLOTS))
        if belongs(draft.key, split):
            return draft


def _told(dice: Dice, plot: Plot, slots: dict[str, str], opening: str) -> str:
    parts = [(opening, *plot.beginning), plot.middle, plot.ending]
    return "\n".join(polished(" ".join(render(line, dice, slots) for line in part)) for part in parts)


def _episode(dice: Dice, hero: Person, draft: _Draft, opening: str = _INTRODUCTION) -> Story:
    plot, slots = draft.plot, {**_cast(dice, hero), **draft.slots}
    text = _told(dice, plot, slots, f"[{opening}]")
    questions = tuple(
        (polished(render(question, dice, slots)), render(answer, dice, slots))
        for question, answer in plot.questions
    )
    summary = polished(render(plot.summary, dice, slots))
    return Story(text, render(plot.about, dice, slots), summary, draft.key, hero.name, questions)


def tell(dice: Dice, split: Split, hero: Person | None = None) -> Story:
    """A story of the split, of a given hero if wanted; `longer` ones have two or three episodes."""
    hero = hero or dice.pick(CHILDREN)
    if split == "longer":
        return _chain(dice, hero, dice.between(*LONGER_EPISODES))
    return _episode(dice, hero, _draft_of(dice, split))


def _chain(dice: Dice, hero: Person, episodes: int) -> Story:
    drafts = [_draft(dice, plot) for plot in dice.sample(PLOTS, episodes)]
    told = [
        _episode(dice, hero, draft, _NEXT_EPISODE if at else _INTRODUCTION) for at, draft in enumerate(drafts)
    ]
    return Story(
        "\n".join(story.text for story in told),
        " and ".join(story.about for story in told),
        " ".join(story.summary for story in told),
        "||".join(story.key for story in told),
        hero.name,
        tuple(question for story in told for question in story.questions),
    )


def stories(split: Split, seed: int = 0) -> Iterator[str]:
    """An infinite stream of the split's stories, the same for the same split and seed."""
    dice = Dice("stories", split, seed)
    while True:
        yield tell(dice, split).text


def story_question(dice: Dice, length: int) -> Problem:
    """A story and a question about it; its length is the number of episodes."""
    hero = dice.pick(CHILDREN)
    story = (
        _episode(dice, hero, _draft(dice, dice.pick(PLOTS))) if length == 1 else _chain(dice, hero, length)
    )
    question, answer = dice.pick(story.questions)
    return Problem(f"{story.text}\n{question}", answer, "", length, key=story.key)
