"""Conversations with Camelid: stories, facts and problems, with follow-ups that refer to earlier turns."""

from collections.abc import Callable, Iterator

from camelid.data.world.bible import CHILDREN, GUESTS, PEOPLE, Person
from camelid.data.world.facts import Fact, facts_about, slots_of
from camelid.data.world.grammar import Dice, polished, render
from camelid.data.world.items import SKILLS, draw, mixed_cue, pose, reply_of
from camelid.data.world.smalltalk import (
    CONTINUE,
    FAREWELLS,
    GREETINGS,
    MEMORIES,
    OUTSIDE,
    OUTSIDE_WORDS,
    REFUSAL_STRANGER,
    REFUSALS,
    SMALL_TALK,
    SYSTEM,
    YES_PLEASE,
)
from camelid.data.world.splits import Split, belongs, name_blind
from camelid.data.world.stories import tell
from camelid.text.conversation import Conversation

BLOCKS = (1, 3)  # how many topics a conversation has
LONGER_BLOCKS = (5, 7)

SKILL_WEIGHTS = {
    "facts": 12.0,
    "coin_flip": 3.5,
    "last_letters": 2.0,
    "comparison": 3.0,
    "kinds": 2.5,
    "weekdays": 1.5,
    "months": 1.5,
    "dates": 0.5,
    "chains": 1.0,
    "sums": 1.5,
    "groups": 0.7,
}

_STORY_REQUEST = (
    "[Tell me|Please tell me|I would like to hear|I want] a story{topic}[.|, please.]"
    "|[Can you tell me|Will you tell me|Do you know] a story{topic}?"
)
_TOPIC = "[| about {hero}| about {about}| about {hero} and {about}| with {hero}]"
_MORE = "[Tell me another one.|Another story, please.|One more story, please!|Can you tell me one more?]"
_SUMMARY = (
    "[Can you say it in one sentence?|What happened in the story?"
    "|Tell it again in one sentence.|What is the story in short?]"
)
_WHO = "[Who was the story about?|Who was in the story?|Whose story was that?]"
_CLAUSE = (
    "[And can you tell me {clause}?|And do you know {clause}?"
    "|I also want to know {clause}.|And tell me {clause}.]"
)
_OTHER = "[And {name}?|What about {name}?|And what about {name}?|The same for {name}, please.]"
_PROFILE = (
    "[Tell me about {name}.|Who is {name}?|What do you know about {name}?"
    "|Can you tell me something about {name}?]"
)
_SURE = "[Are you sure?|Is that right?|Really?]"
_HOW = "[How do you know?|Why?|Show me the steps.|Can you explain it?]"

Turns = list[tuple[str, str]]


class Talk:
    """A conversation under construction: its turns so far, and whether one of them is unique to the split."""

    def __init__(self, dice: Dice, split: Split):
        self.dice = dice
        self.split: Split = (
            "test" if split == "longer" else split
        )  # longer talks have more turns, not longer questions
        self.turns: Turns = []
        self.bound = False
        self.stories, self.most_stories = 0, 3 if split == "longer" else 1

    def say(self, user: str, assistant: str, **slots: str) -> None:
        """Add one exchange, both sides written as templates."""
        self.turns.append(
            (polished(render(user, self.dice, slots)), polished(render(assistant, self.dice, slots)))
        )

    def story(self) -> None:
        """Ask for a story, then perhaps about it; a conversation of trained length holds one story."""
        if self.stories == self.most_stories:
            self.problem()
            return
        self.stories += 1
        hero = self.dice.pick(CHILDREN)
        told = tell(self.dice, self.split, hero)
        self.bound = True
        self.say(
            f"[{_STORY_REQUEST}]", "{text}", topic=_TOPIC, hero=told.hero, about=told.about, text=told.text
        )
        for question, answer in self.dice.sample(told.questions, self.dice.between(0, 2)):
            self.say("{question}", "{answer}.", question=question, answer=answer)
        if self.dice.chance(0.25):
            self.say(_SUMMARY, "{summary}", summary=told.summary)
        if self.dice.chance(0.15):
            self.say(_WHO, "[The story was about|It was about] {hero}.", hero=told.hero)
        if self.dice.chance(0.05):
            self.say(_MORE, "{text}", text=tell(self.dice, self.split).text)

    def problem(self) -> None:
        """Put one or two questions of a skill, perhaps with a doubt afterwards."""
        skill = SKILLS[self.dice.weighted(SKILL_WEIGHTS)]
        self.bound = self.bound or not skill.about_names
        for _ in range(self.dice.pick((1, 1, 2))):
            problem = draw(skill, self.split, self.dice)
            question, steps = pose(skill, problem, mixed_cue(self.dice))
            self.say(
                "{question}", "{reply}", question=question, reply=reply_of(skill.name, problem.answer, steps)
            )
        if self.dice.chance(0.12):
            self.say(_SURE, "Yes. The answer is {answer}.", answer=problem.answer)
        elif problem.steps and not steps and self.dice.chance(0.5):
            self.say(_HOW, "{reply}", reply=reply_of(skill.name, problem.answer, problem.steps))

    def person(self) -> None:
        """Talk about somebody of the village: who they are, more about them, the same about another."""
        person = PEOPLE[self.dice.pick(tuple(PEOPLE))]
        facts = tuple(facts_about(person.name).values())
        if self.dice.chance(0.5):
            chosen = self.dice.sample(facts, 3)
            self.say(
                _PROFILE, "{text}", name=person.name, text=" ".join(fact.state(self.dice) for fact in chosen)
            )
        else:
            fact = self.dice.pick(facts)
            self.say("{question}", "{value}.", question=fact.ask(self.dice), value=fact.value)
            chosen = [fact]
        self.follow(person, [fact for fact in facts if fact not in chosen])

    def follow(self, person: Person, facts: list[Fact]) -> None:
        """Ask a follow-up with a pronoun, then about someone of the same age."""
        asked = self.dice.sample(facts, self.dice.between(1, 2))
        for fact in asked:
            clause = render(fact.relation.clause, self.dice, slots_of(person))
            self.say(_CLAUSE, "{value}.", clause=clause, value=fact.value)
        if self.dice.chance(0.5):
            kind = asked[-1].relation.name
            same = [name for name in PEOPLE if name != person.name and kind in facts_about(name)]
            name = self.dice.pick(same)
            self.say(_OTHER, "{value}.", name=name, value=facts_about(name)[kind].value)

    def small_talk(self) -> None:
        """A word about the assistant or the day."""
        self.say(*self.dice.pick(SMALL_TALK))

    def outside(self) -> None:
        """Ask for what lies outside the world; an offered story may be taken."""
        stranger = self.dice.pick(GUESTS)
        words = {**OUTSIDE_WORDS, "stranger": stranger, "known": self.dice.pick(tuple(PEOPLE))}
        numbers = {"big": str(self.dice.between(100, 999)), "large": str(self.dice.between(20, 99))}
        question = self.dice.pick(OUTSIDE)
        refusal = REFUSAL_STRANGER if "{stranger}" in question else self.dice.pick(REFUSALS)
        self.say(question, refusal, **words, **numbers)
        offered = self.turns[-1][1].endswith("instead?") and self.stories < self.most_stories
        if offered and self.dice.chance(0.7):
            told = tell(self.dice, self.split)
            self.bound, self.stories = True, self.stories + 1
            self.say(self.dice.pick(YES_PLEASE), "{text}", text=told.text)

    def memory(self) -> None:
        """The user states something, changes the subject, and asks for it later."""
        told, reply, asked, recalled, what = self.dice.pick(MEMORIES)
        someone = self.dice.pick(CHILDREN)
        values = {"name": self.dice.pick(GUESTS), "age": str(self.dice.between(5, 40)), "pet": someone.pet}
        value = {"colour": someone.colour, "food": someone.food, **values}[what]
        self.say(f"[{told}]", reply, value=value)
        if self.dice.chance(0.6):
            self.dice.pick((self.problem, self.person, self.small_talk))()
        self.say(asked, recalled, value=value)


BLOCK_WEIGHTS: dict[Callable[[Talk], None], float] = {
    Talk.story: 0.15,
    Talk.problem: 0.5,
    Talk.person: 0.13,
    Talk.small_talk: 0.1,
    Talk.outside: 0.08,
    Talk.memory: 0.06,
}


def _talk(dice: Dice, split: Split) -> Talk:
    talk = Talk(dice, split)
    if dice.chance(0.3):
        talk.say(*dice.pick(GREETINGS), camelid="[|, Camelid]")
    for _ in range(dice.between(*(LONGER_BLOCKS if split == "longer" else BLOCKS))):
        start = len(talk.turns)
        dice.weighted(BLOCK_WEIGHTS)(talk)
        if start:
            user, assistant = talk.turns[start]
            talk.turns[start] = (dice.pick(CONTINUE) + user, assistant)
    if dice.chance(0.2):
        talk.say(*dice.pick(FAREWELLS))
    return talk


def conversation(dice: Dice, split: Split) -> Conversation:
    """One conversation of the split; one in ten begins with a system message."""
    while True:
        talk = _talk(dice, split)
        if talk.bound or belongs(name_blind(" ".join(text for turn in talk.turns for text in turn)), split):
            return Conversation.of(*talk.turns, system=dice.pick(SYSTEM) if dice.chance(0.1) else None)


def conversations(split: Split, seed: int = 0) -> Iterator[Conversation]:
    """An infinite stream of the split's conversations, the same for the same split and seed."""
    dice = Dice("conversations", split, seed)
    while True:
        yield conversation(dice, split)
