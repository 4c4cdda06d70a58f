"""How the tokens of a step are shared among prompts, none of which may wait forever."""

from collections.abc import Sequence


def whole_shares(wanted: Sequence[int], budget: int) -> list[int]:
    """Which of what cannot be cut a step takes, by their places, the oldest first: that in any case, then
    what is least."""
    taken: dict[int, int] = {}
    for index in [0, *sorted(range(len(wanted)), key=wanted.__getitem__)] if wanted else ():
        if not any(taken.values()) or sum(taken.values()) + wanted[index] <= budget or index in taken:
            taken[index] = wanted[index]
    return sorted(taken)


def shares(wanted: Sequence[int], budget: int) -> list[int]:
    """How many tokens of a step each prompt gets, of so many that it wants, the oldest first.

    Half of them go to the oldest, so that each comes to its end; the others to those that want least, so that
    a short one does not wait for long ones.
    """
    given = [0] * len(wanted)
    turns = [
        (0, -(-budget // 2)),
        *((index, budget) for index in sorted(range(len(wanted)), key=wanted.__getitem__)),
    ]
    for index, most in turns if wanted else ():
        part = min(wanted[index] - given[index], most, budget - sum(given))
        given[index] += part
    return given
