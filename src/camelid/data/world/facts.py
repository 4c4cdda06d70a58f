"""What the world states, as sentences and as questions: one fact at a time, and along chains of people."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from camelid.data.world.bible import (
    CHILDREN,
    GROWN_UPS,
    PEOPLE,
    PLACES,
    PRONOUNS,
    Person,
    children_of,
    parent_word,
)
from camelid.data.world.grammar import Dice, capitalised, listed, render
from camelid.data.world.lexicon import (
    ANIMALS,
    CAUSES,
    COLOURS_OF,
    DAYS,
    MADE_FROM,
    MONTHS,
    OPPOSITES,
    SEASONS,
    USES,
)
from camelid.data.world.problem import Problem
from camelid.data.world.relations import COMMON, PERSONAL, REVERSE, Relation


@dataclass(frozen=True)
class Fact:
    """One thing that is true in the world: the value of a relation for `x`."""

    relation: Relation
    x: str
    value: str
    person: Mapping[str, str] | None = None

    @property
    def slots(self) -> dict[str, str]:
        """The values for the relation's templates."""
        return {**(self.person or {}), "x": self.x, "value": self.value}

    def state(self, dice: Dice) -> str:
        """The fact as a sentence."""
        return capitalised(render(f"[{self.relation.statements}]", dice, self.slots))

    def ask(self, dice: Dice) -> str:
        """The fact as a question."""
        return capitalised(render(f"[{self.relation.questions}]", dice, self.slots))


def slots_of(person: Person) -> dict[str, str]:
    """A person's pronouns and, for a child, its pet and the word for its parent."""
    slots = {**PRONOUNS[person.he], "pet": person.pet}
    return {**slots, "parent_word": parent_word(person)} if person.is_child else slots


@cache
def facts_about(name: str) -> Mapping[str, Fact]:
    """The facts about one person, by the name of their relation."""
    person = PEOPLE[name]
    values = {"home": person.home, "food": person.food, "colour": person.colour, "friend": person.friend}
    if person.is_child:
        values |= {"age": person.age, "parent": person.parent, "pet": f"a {person.pet}"}
        values |= {"pet name": person.pet_name, "hobby": person.hobby}
    else:
        children = [child.name for child in children_of(person)]
        values |= {"job": person.job, "work": person.work}
        values["child" if len(children) == 1 else "children"] = listed(children)
    slots = slots_of(person)
    return {kind: Fact(PERSONAL[kind], name, value, slots) for kind, value in values.items()}


def _table_facts() -> list[Fact]:
    tables = (
        (PLACES, "at", ("there", "thing", "do")),
        (ANIMALS, "animal", ("sound", "young", "eats", "legs")),
        (USES, "tool", ("use",)),
        (MADE_FROM, "product", ("source",)),
        (COLOURS_OF, "object", ("colour",)),
        (OPPOSITES, "one", ("other",)),
        (tuple({"other": row["one"], "one": row["other"]} for row in OPPOSITES), "one", ("other",)),
        (CAUSES, "when", ("then",)),
        (CAUSES, "why", ("because",)),
    )
    return [
        Fact(COMMON[kind], row[subject], row[kind])
        for table, subject, kinds in tables
        for row in table
        for kind in kinds
    ]


def _common_facts() -> tuple[Fact, ...]:
    found = _table_facts()
    for cycle in (DAYS, MONTHS, SEASONS):
        found += [Fact(COMMON["next"], name, cycle[(at + 1) % len(cycle)]) for at, name in enumerate(cycle)]
    found += [Fact(REVERSE["eater"], person.food, person.name) for person in PEOPLE.values()]
    found += [Fact(REVERSE["worker"], f"the {person.job}", person.name) for person in GROWN_UPS]
    found += [Fact(REVERSE["owner"], f"the {child.pet}", child.name) for child in CHILDREN]
    found += [Fact(REVERSE["player"], child.hobby, child.name) for child in CHILDREN]
    return tuple(found)


COMMON_FACTS = _common_facts()
PERSONAL_FACTS = tuple(fact for name in PEOPLE for fact in facts_about(name).values())

# The ways to address a question; a held-out form is a relation, a wording and an address never seen together.
_ADDRESS = (
    "Please tell me: {question}|I have a question. {question}|Do you know it? {question}"
    "|One question: {question}|Here is a question: {question}|Let me ask you: {question}"
    "|I want to know: {question}"
    "|Can you help me? {question}|Listen: {question}|Now answer this: {question}"
)


_PLAIN_SHARE = 0.25


def _put(dice: Dice, question: str, answer: str, steps: str, length: int) -> Problem:
    """The question itself, or in one of ten forms of address; only the latter can be held out."""
    if dice.chance(_PLAIN_SHARE):
        return Problem(question, answer, steps, length, plain=True)
    return Problem(render(f"[{_ADDRESS}]", dice, {"question": question}), answer, steps, length)


def fact_question(dice: Dice, length: int) -> Problem:
    """One fact of the world, asked in some wording and address."""
    fact = dice.pick(PERSONAL_FACTS if dice.chance(0.6) else COMMON_FACTS)
    return _put(dice, fact.ask(dice), fact.value, "", length)


def _neighbours(person: Person) -> list[tuple[str, Fact]]:
    """The people one step away: their relation to this person, and the fact that states it."""
    facts = facts_about(person.name)
    steps = [("best friend", facts["friend"])]
    if person.is_child:
        steps.append((parent_word(person), facts["parent"]))
    elif "child" in facts:
        steps.append(("child", facts["child"]))
    return steps


def chain_question(dice: Dice, length: int) -> Problem:
    """A fact about somebody who is `length` - 1 steps away; every step names the next person."""
    person = PEOPLE[dice.pick(tuple(PEOPLE))]
    called, steps, seen = person.name, [], {person.name}
    for _ in range(length - 1):
        onward = [step for step in _neighbours(person) if step[1].value not in seen]
        if not onward:
            return chain_question(dice, length)
        word, fact = dice.pick(onward)
        called, person = f"{called}'s {word}", PEOPLE[fact.value]
        steps.append(render(fact.relation.statements.split("|")[0], dice, fact.slots))
        seen.add(person.name)
    last = dice.pick(
        [
            fact
            for fact in facts_about(person.name).values()
            if fact.value not in seen and fact.relation.name != "work"
        ]
    )
    question = render(f"[{last.relation.questions}]", dice, {**last.slots, "x": called})
    steps.append(render(last.relation.statements.split("|")[0], dice, last.slots))
    return _put(
        dice, capitalised(question), last.value, " ".join(capitalised(step) for step in steps), length
    )
