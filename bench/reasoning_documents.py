"""The small corpus of bench/reasoning.py: sums, coin flips and last letters, with worked steps or without,
several questions to a document, so that a model learns to follow exemplars.

The questions are the embedded world's in the fewest words, and each step begins with a name of the question:
the world's own wording takes a model of this size several times as many updates. Trained questions have 2 to
4 steps; those of 5 to 8 steps are never trained. Shorter ones are held out by the world's hash, of the
numbers in sums and of the whole question elsewhere. `rules` are a skill that cannot be solved without
exemplars: what an invented word means is drawn for each document.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from camelid.data.world.bible import ALL_NAMES
from camelid.data.world.games import games
from camelid.data.world.grammar import Dice
from camelid.data.world.problem import Problem
from camelid.data.world.puzzles import OTHER_SIDE
from camelid.data.world.splits import Split, belongs
from camelid.prompting.asking import QUESTION_ANSWER, Wording
from camelid.tasks.item import Item

TRAINED, LONGER = (2, 3, 4), (5, 6, 7, 8)
"""Steps of the questions in the corpus, and of those that are longer than any of them."""
MOST_NAMES = 7
"""The longest list that is taught, part by part: all its beginnings must fit the context."""
HIGHEST = 9


def sums(dice: Dice, length: int) -> Problem:
    """`length` people give or take some of what somebody has; every number is within 0 to 9."""
    owner, *people = dice.sample(ALL_NAMES, length + 1)
    total = dice.between(1, HIGHEST - 1)
    told, steps, key = [f"{owner} has {total}."], [], [total]
    for name in people:
        adds = total < HIGHEST and (total == 0 or dice.chance(0.5))
        change = dice.between(1, HIGHEST - total if adds else total)
        told.append(f"{name} {'gives' if adds else 'takes'} {change}.")
        result = total + change if adds else total - change
        steps.append(f"{name}: {total} {'+' if adds else '-'} {change} = {result}.")
        key.append(result)
        total = result
    return Problem(f"{' '.join(told)} How many?", str(total), " ".join(steps), length, key=f"sums {key}")


def coin_flip(dice: Dice, length: int) -> Problem:
    """`length` people flip a coin or leave it."""
    start = side = dice.pick(("heads", "tails"))
    told, steps = [f"The coin is {start}."], []
    for name in dice.sample(ALL_NAMES, length):
        flips = dice.chance(0.5)
        verb, before = "flips" if flips else "leaves", side
        side = OTHER_SIDE[side] if flips else side
        told.append(f"{name} {verb} it.")
        steps.append(f"{name} {verb} {before}: {side}.")
    question = f"{' '.join(told)} Is it {start}?"
    answer = "yes" if side == start else "no"
    return Problem(question, answer, " ".join(steps), length, ("yes", "no"), key=question)


def last_letters(dice: Dice, length: int) -> Problem:
    """The last letters of `length` names, separated by spaces, so that each is its own token."""
    names = tuple(dice.sample(ALL_NAMES, length))
    steps = " ".join(f"{name} ends in {name[-1]}." for name in names)
    question = f"Last letters of {', '.join(names)}?"
    return Problem(question, " ".join(name[-1] for name in names), steps, length, names=names, key=question)


SKILLS: dict[str, Callable[[Dice, int], Problem]] = {
    "sums": sums,
    "coin_flip": coin_flip,
    "last_letters": last_letters,
}
GRADERS = {"sums": "numeric", "coin_flip": "choice", "last_letters": "exact", "rules": "exact"}
FORMATS = {
    "sums": {"steps": 0.6, "direct": 0.4},
    "coin_flip": {"steps": 0.6, "direct": 0.4},
    "last_letters": {"steps": 0.35, "direct": 0.3, "beginnings": 0.35},
    "rules": {"direct": 1.0},
}
"""How the documents of a skill answer: with steps, directly, or list by list as least-to-most does."""
MIXTURE = {"sums": 0.4, "coin_flip": 0.2, "last_letters": 0.3, "rules": 0.1}
MARKS = {("Q: ", "\nA:"): 0.8, ("Question: ", "\nAnswer:"): 0.1, ("Problem: ", "\nSolution:"): 0.1}
SHORTEST, LONGEST = 60, 700
"""Characters of a document: at most about 340 tokens, so that longer questions fit 384."""
GAMES = 2_000_000
"""Characters over which memory games give way to questions: they teach copying (docs/world.md)."""

RULES: dict[str, Callable[[int, int], int]] = {
    "sum": lambda a, b: a + b,
    "difference": lambda a, b: abs(a - b),
    "larger": max,
    "smaller": min,
    "first": lambda a, b: a,
    "second": lambda a, b: b,
}
_SYLLABLES = ("ba", "do", "fi", "ke", "lu", "mo", "ni", "pa", "re", "su", "ti", "vo", "wa", "zu")
TRAINED_WORDS = tuple(a + b for a in _SYLLABLES[:10] for b in _SYLLABLES)
HELD_OUT_WORDS = tuple(a + b for a in _SYLLABLES[10:] for b in _SYLLABLES)


@dataclass(frozen=True)
class Solved:
    """A question with its answer and the steps that lead to it; may be empty."""

    question: str
    answer: str
    steps: str = ""

    def text(self, marks: tuple[str, str] = ("Q: ", "\nA:")) -> str:
        """Question and reply, as a prompt shows an exemplar."""
        before, after = marks
        wording = Wording(**{**vars(QUESTION_ANSWER), "question": before + "{question}" + after})
        worked = wording.reasoned.format(rationale=self.steps, answer=self.answer)
        reply = wording.answer.format(answer=worked if self.steps else self.answer)
        return wording.question.format(question=self.question) + reply


def drawn(skill: str, split: Split, dice: Dice, length: int) -> Problem:
    """A problem of so many steps, of the split if it is short enough to be trained."""
    while True:
        problem = SKILLS[skill](dice, length)
        if split == "longer" or belongs(problem.key, split):
            return problem


def drawn_by_parts(dice: Dice, length: int) -> Problem:
    """A list of so many names of which every beginning may be trained."""
    while True:
        problem = last_letters(dice, length)
        parts = (part_question(problem.names[:end]) for end in range(2, length + 1))
        if all(belongs(part, "train") for part in parts):
            return problem


def rule(dice: Dice, word: str, name: str) -> Solved:
    """What an invented word makes of two numbers."""
    a, b = dice.between(1, 9), dice.between(1, 9)
    return Solved(f"{word} {a} {b}", str(RULES[name](a, b)))


def beginnings(problem: Problem) -> list[Solved]:
    """The parts of a question about names: two of them, then one more each time, from the answer before."""
    names, letters = problem.names, problem.answer.split()
    first = " ".join(f"{name} ends in {name[-1]}." for name in names[:2])
    parts = [Solved(part_question(names[:2]), " ".join(letters[:2]), first)]
    for end in range(3, len(names) + 1):
        known = f"{', '.join(names[: end - 1])} give {' '.join(letters[: end - 1])}."
        steps = f"{known} {names[end - 1]} ends in {letters[end - 1]}."
        parts.append(Solved(part_question(names[:end]), " ".join(letters[:end]), steps))
    return parts


def part_question(names: Sequence[str]) -> str:
    """The question of one part of a list of names."""
    return f"Last letters of {', '.join(names)}?"


def document(dice: Dice) -> str:
    """Questions of one skill, answered in one way, up to a random length."""
    skill = dice.weighted(MIXTURE)
    form, marks = dice.weighted(FORMATS[skill]), dice.weighted(MARKS)
    word, name = dice.pick(TRAINED_WORDS), dice.pick(tuple(RULES))
    size = dice.between(SHORTEST, LONGEST) // (2 if skill == "rules" else 1)
    written = ""
    while True:
        if skill == "rules":
            solved = [rule(dice, word, name)]
        elif form == "beginnings":
            solved = beginnings(drawn_by_parts(dice, dice.between(2, MOST_NAMES)))
        else:
            problem = drawn(skill, "train", dice, dice.pick(TRAINED))
            solved = [Solved(problem.question, problem.answer, problem.steps if form == "steps" else "")]
        more = "\n\n".join(each.text(marks) for each in solved)
        if written and len(written) + len(more) > size:
            return written
        written = f"{written}\n\n{more}" if written else more


def documents(seed: int) -> Iterator[str]:
    """The corpus, endless: memory games that give way to solved questions."""
    played, told = games(GAMES, seed), 0
    for index in count():
        dice = Dice("reasoning", seed, index)
        game = None if dice.chance(told / GAMES) else next(played)
        text = game or document(dice)
        told += len(text)
        yield text


def write_corpus(path: Path, characters: int, seed: int) -> None:
    """Documents of at least so many characters, as JSON lines."""
    written = 0
    with path.open("w", encoding="utf-8") as lines:
        for text in documents(seed):
            lines.write(json.dumps({"text": text}) + "\n")
            written += len(text)
            if written >= characters:
                return


def items(skill: str, split: Split, lengths: tuple[int, ...], number: int) -> list[Item]:
    """Different questions, as many of each length."""
    found: dict[str, Item] = {}
    dice = Dice("reasoning items", skill, split, *lengths)
    while len(found) < number:
        length = lengths[len(found) % len(lengths)]
        problem = drawn(skill, split, dice, length)
        found.setdefault(
            problem.question,
            Item(
                id=f"{length}-{len(found)}",
                question=problem.question,
                answer=problem.answer,
                choices=problem.choices,
                rationale=problem.steps,
                metadata={"length": length},
            ),
        )
    return list(found.values())
