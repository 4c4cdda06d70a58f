"""Memory games: lists and short reports that are repeated word by word or queried item by item.

The repetition can only be predicted from the context, so these texts teach a model to copy long before it
could learn that from stories. Pretraining begins with them (docs/world.md has the measurement).
"""

from collections.abc import Iterator
from itertools import pairwise

from camelid.data.world.bible import ALL_NAMES
from camelid.data.world.documents import documents
from camelid.data.world.grammar import Dice, render
from camelid.data.world.lexicon import KINDS

_THINGS = tuple(thing for things in KINDS.values() for thing in things)


def _song(dice: Dice) -> str:
    """A list, sung several times."""
    pool = dice.pick((ALL_NAMES, _THINGS, (*ALL_NAMES, *_THINGS)))
    line = f"{', '.join(dice.sample(pool, dice.between(3, 8)))}."
    return " ".join([line] * dice.between(3, 5))


def _bag(dice: Dice) -> str:
    """Everyone lists what is in the bag and adds one more thing."""
    names, things = (dice.sample(pool, dice.between(3, 5)) for pool in (ALL_NAMES, _THINGS))
    turns = range(min(len(names), len(things)))
    return " ".join(f"{names[turn]}: I pack {', '.join(things[: turn + 1])}." for turn in turns)


def _memory(dice: Dice) -> str:
    """Who has what; then each is asked for, in any order."""
    names, things = (dice.sample(pool, 5) for pool in (ALL_NAMES, _THINGS))
    count = dice.between(2, 5)
    told = list(zip(names[:count], things, strict=False))
    verb = dice.pick(("has", "finds", "wants", "sees"))
    lines = [f"{name} {verb} {thing}." for name, thing in told]
    again = lines if dice.chance(0.5) else dice.shuffled(lines)
    asked = [
        render("[{name}?|And {name}?] {thing}.", dice, {"name": n, "thing": t})
        for n, t in dice.shuffled(told)
    ]
    return " ".join([*lines, *again, *asked])


def _relay(dice: Dice) -> str:
    """A thing is passed on; then its path is told from the start and from the end."""
    way, thing = dice.sample(ALL_NAMES, dice.between(3, 6)), dice.pick(_THINGS)
    passes = [f"{one} gives {thing} to {other}." for one, other in pairwise(way)]
    back = [f"{other} got it from {one}." for one, other in pairwise(way)][::-1]
    return " ".join([*passes, *(passes if dice.chance(0.5) else []), *back])


GAMES = {_song: 0.4, _bag: 0.15, _memory: 0.3, _relay: 0.15}


SONGS_FIRST = 0.7


def games(size: int, seed: int = 0) -> Iterator[str]:
    """About `size` bytes of games, determined by the seed, from easy to hard: songs first, then all kinds.

    They are for training only; no graded questions use them.
    """
    dice, written = Dice("games", seed), 0
    while written < size:
        text = _song(dice) if written < SONGS_FIRST * size else dice.weighted(GAMES)(dice)
        yield text
        written += len(text.encode())


def curriculum(games_size: int, seed: int = 0) -> Iterator[str]:
    """Infinite training texts: `games_size` bytes of games, gradually mixed with documents, then those."""
    dice, written = Dice("curriculum", seed), 0
    played, told = games(games_size, seed), documents("train", seed)
    while True:
        give_way = dice.chance(written / (2 * games_size)) if games_size else True
        text = (None if give_way else next(played, None)) or next(told)
        yield text
        written += len(text.encode())
