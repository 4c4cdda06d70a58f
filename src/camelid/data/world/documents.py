"""The pretraining mixture: stories, facts, worked problems and dialogues, all as plain text."""

from collections.abc import Callable, Iterator

from camelid.data.world.bible import CHILDREN, GUESTS, PEOPLE
from camelid.data.world.conversations import SKILL_WEIGHTS, conversation
from camelid.data.world.facts import COMMON_FACTS, facts_about
from camelid.data.world.grammar import Dice, capitalised, render
from camelid.data.world.items import SKILLS, draw, mixed_cue, pose, reply_of
from camelid.data.world.problem import Problem
from camelid.data.world.splits import Split, belongs, name_blind
from camelid.data.world.stories import tell

_ASIDE = '[|||{one} thought about it.|{one} was surprised.|{other} smiled.|"Good to know," said {one}.]'
_ASKS = '[{one} asked {other}, "{question}"|"{question}" asked {one}.|{one} wanted to know, "{question}"]'
_SAYS = '["{reply}," said {other}.|{other} said, "{reply}."|{other} knew it. "{reply}," {he} said.]'
_MEETING = (
    "[{one} and {other} were sitting by the fire.|One evening {one} met {other} on the square."
    "|{one} had many questions, and {other} knew the answers."
    "|{one} was walking home with {other}.|It was raining, and {one} sat at the window with {other}.]"
)


def _story(dice: Dice, split: Split) -> str:
    told = tell(dice, split)
    if dice.chance(0.25):
        title = render(
            "[A story about {hero} and {about}.|A story about {about}.]",
            dice,
            {"hero": told.hero, "about": told.about},
        )
        return f"{title}\n{told.text}"
    return told.text


def _facts(dice: Dice, split: Split) -> str:
    """A portrait of a person, or a few facts of common knowledge."""
    while True:
        if dice.chance(0.65):
            facts = tuple(facts_about(dice.pick(tuple(PEOPLE))).values())
            count = len(facts) if split == "longer" else dice.between(3, len(facts) - 1)
        else:
            facts, count = COMMON_FACTS, 12 if split == "longer" else dice.between(4, 7)
        text = " ".join(fact.state(dice) for fact in dice.sample(facts, count))
        if belongs(name_blind(text), split):
            return text


def _exchange(dice: Dice, split: Split, skill_name: str) -> str:
    skill = SKILLS[skill_name]
    problem = draw(skill, split, dice)
    question, steps = pose(skill, problem, mixed_cue(dice))
    return f"Q: {question}\nA: {reply_of(skill_name, problem.answer, steps)}"


def _problems(dice: Dice, split: Split) -> str:
    """Several questions with their replies, of one skill or of several."""
    weights = {
        name: weight for name, weight in SKILL_WEIGHTS.items() if split != "longer" or SKILLS[name].longer
    }
    only = dice.weighted(weights) if dice.chance(0.5) else None
    while True:
        names = [only or dice.weighted(weights) for _ in range(dice.between(3, 6))]
        text = "\n\n".join(_exchange(dice, split, name) for name in names)
        if not all(SKILLS[name].about_names for name in names) or belongs(name_blind(text), split):
            return text


def _reading(dice: Dice, split: Split) -> str:
    """A story and all questions about it."""
    told = tell(dice, split)
    asked = "\n".join(
        f"Q: {question}\nA: {capitalised(answer)}." for question, answer in dice.shuffled(told.questions)
    )
    return f"{told.text}\n\n{asked}"


def _fact_about_others(dice: Dice, split: Split, speakers: tuple[str, str]) -> Problem:
    while True:
        problem = draw(SKILLS["facts"], "test" if split == "longer" else split, dice)
        if not any(name in problem.question or name in problem.answer for name in speakers):
            return problem


def _prose_dialogue(dice: Dice, split: Split) -> str:
    """Somebody of the village answers the questions of a child."""
    child = dice.pick(CHILDREN)
    other = dice.pick([person for person in PEOPLE.values() if person is not child])
    slots = {"one": child.name, "other": other.name, "he": other.he}
    parts = [render(_MEETING, dice, slots)]
    for _ in range(dice.between(6, 8) if split == "longer" else dice.between(2, 4)):
        problem = _fact_about_others(dice, split, (child.name, other.name))
        said = {"question": problem.question, "reply": capitalised(problem.answer)}
        parts += [
            render(_ASKS, dice, slots | said),
            render(_SAYS, dice, slots | said),
            render(_ASIDE, dice, slots),
        ]
    return " ".join(part for part in parts if part)


def _transcript(dice: Dice, split: Split) -> str:
    """A conversation with Camelid, written like a play."""
    speakers = {"system": "", "user": f"{dice.pick((*GUESTS, *PEOPLE))}: ", "assistant": "Camelid: "}
    messages = conversation(dice, split).messages
    return "\n".join(f"{speakers[message.role]}{message.content}" for message in messages)


MIXTURE: dict[Callable[[Dice, Split], str], float] = {
    _story: 0.15,
    _facts: 0.26,
    _problems: 0.42,
    _reading: 0.02,
    _prose_dialogue: 0.04,
    _transcript: 0.11,
}


def documents(split: Split, seed: int = 0) -> Iterator[str]:
    """An infinite stream of the split's documents, the same for the same split and seed."""
    dice = Dice("documents", split, seed)
    while True:
        yield dice.weighted(MIXTURE)(dice, split)
