"""Coin flips, last letters, comparisons and kinds: puzzles that need no knowledge of the village."""

from itertools import pairwise

from camelid.data.world.bible import ALL_NAMES, GUESTS
from camelid.data.world.grammar import Dice, capitalised, listed, render
from camelid.data.world.lexicon import KINDS, SCALES
from camelid.data.world.problem import Problem
from camelid.data.world.splits import name_blind

OTHER_SIDE = {"heads": "tails", "tails": "heads"}


def coin_flip(dice: Dice, length: int) -> Problem:
    """`length` people flip a coin or leave it; the steps state its side after every person."""
    start = side = dice.pick(("heads", "tails"))
    told, steps = [], [f"The coin is {start} up."]
    for name in dice.sample(ALL_NAMES, length):
        if dice.chance(0.5):
            steps.append(f"{name} flips it from {side} to {OTHER_SIDE[side]}.")
            side = OTHER_SIDE[side]
            told.append(f"{name} {dice.pick(('flips the coin', 'turns the coin over', 'flips it'))}.")
        else:
            idle = dice.pick(("does not flip the coin", "leaves the coin alone", "does not flip it"))
            told.append(f"{name} {idle}.")
            steps.append(f"{name} leaves it at {side}.")
    opening = render(
        "[A coin is {side} up.|A coin lies on the table, {side} up.|There is a coin. It is {side} up."
        "|Here is a coin, {side} up.]",
        dice,
        {"side": start},
    )
    asked = start if dice.chance(0.75) else OTHER_SIDE[start]
    question = render(
        "Is the coin [still {side} up|still {side} up now|{side} up in the end]?"
        if asked == start
        else "Is the coin [{side} up now|{side} up in the end]?",
        dice,
        {"side": asked},
    )
    answer = "yes" if side == asked else "no"
    text = " ".join((opening, *told, question))
    return Problem(text, answer, " ".join(steps), length, ("yes", "no"))


def last_letters(dice: Dice, length: int) -> Problem:
    """The last letters of `length` names, separated by spaces, so that each is its own token."""
    names = tuple(dice.sample(ALL_NAMES, length))
    letters = [name[-1] for name in names]
    question = render(
        "[Take the last letter of each name: {names}.|What are the last letters of the names {names}?"
        "|Write down the last letters of {names}.|Which letters do the names {names} end with?]",
        dice,
        {"names": ", ".join(names)},
    )
    steps = [f"The last letter of {name} is {letter}." for name, letter in zip(names, letters, strict=True)]
    return Problem(question, " ".join(letters), " ".join(steps), length, names=names)


def comparison(dice: Dice, length: int) -> Problem:
    """Who is first or last of `length` people, from shuffled comparisons of neighbours in the true order."""
    high, low, highest, lowest = dice.pick(SCALES)
    order = dice.sample(GUESTS, length)  # from highest to lowest
    upwards = dice.chance(0.5)  # one word for all premises; the question may turn it round
    premises = [
        f"{above} is {high} than {below}." if upwards else f"{below} is {low} than {above}."
        for above, below in pairwise(order)
    ]
    ask_high = dice.chance(0.5)
    chain = order if ask_high else order[::-1]
    word, extreme = (high, highest) if ask_high else (low, lowest)
    asked = word if length == 2 else extreme
    question = render(
        "[Who is {asked}?|Which of them is {asked}?|Tell me who is {asked}.|Who is the {asked} of them?]"
        if length > 2
        else "[Who is {asked}?|Which of them is {asked}?|Tell me who is {asked}.|Who is the {asked} one?]",
        dice,
        {"asked": asked},
    )
    opening = render("[||Listen. |Think about this. |Here is a riddle. ]", dice)
    told = dice.shuffled(premises)
    # Start with the person named first and follow one premise per step until there is no further one.
    first = chain.index(told[0].partition(" ")[0])
    between = premises if ask_high else premises[::-1]  # between[at]: of chain[at] and chain[at + 1]
    steps = [
        f"We start with {chain[first]}.",
        *(between[at] for at in reversed(range(first))),
        f"Nobody is {word} than {chain[0]}.",
    ]
    text = f"{' '.join(told)} {question}"
    choices = tuple(dice.shuffled(order))
    return Problem(opening + text, chain[0], " ".join(steps), length, choices, key=name_blind(text))


def kinds(dice: Dice, length: int) -> Problem:
    """Which of `length` things is of the given kind."""
    kind = dice.pick(tuple(KINDS))
    answer = dice.pick(KINDS[kind])
    others = [thing for other, things in KINDS.items() if other != kind for thing in things]
    # A farm, a mill ... are places, but a forest holds plants: a place never stands beside a plant.
    if kind in ("a plant", "a place"):
        shut_out = KINDS["a place" if kind == "a plant" else "a plant"]
        others = [thing for thing in others if thing not in shut_out]
    options = dice.shuffled([answer, *dice.sample(others, length - 1)])
    question = render(
        "[Which of these is {kind}: {options}?|{options}: which one is {kind}?|Which one is {kind}, "
        "{options}?"
        "|I see {ands}. Which one is {kind}?]",
        dice,
        {"kind": kind, "options": listed(options, "or"), "ands": listed(options)},
    )
    kind_of = {thing: each for each, things in KINDS.items() for thing in things}
    seen = options[: options.index(answer) + 1]  # the search ends once the thing is found
    steps = [f"We look for {kind}."]
    for option in seen:
        steps.append(f"{capitalised(option)} is {kind_of[option]}: {'yes' if option == answer else 'no'}.")
    return Problem(capitalised(question), answer, " ".join(steps), length, tuple(options))
