"""How many updates tell the speed of a machine."""

from itertools import chain, repeat

import pytest

from camelid.train.speed import typical


@pytest.mark.parametrize(
    ("first", "then", "expected", "taken"),
    [
        ([20.0, 0.5], 0.5, 0.5, 2 + 6),  # six updates of half a second fill three seconds
        ([20.0, 2.0], 1.5, 1.5, 2 + 3),  # three at least
        ([20.0, 5.0], 5.0, 5.0, 2 + 2),  # two take more than twice the time
        ([30.0, 9.0], 9.0, 9.0, 2),  # one does
    ],
)
def test_slow_updates_are_timed_less_often(first, then, expected, taken):
    updates = chain(first, repeat(then))
    counted = []
    assert typical((counted.append(seconds) or seconds for seconds in updates), 3.0) == expected
    assert len(counted) == taken
