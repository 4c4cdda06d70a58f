"""Alarms and gates from metrics: what shows, what stops, and how a gain is divided."""

import logging
from pathlib import Path

import pytest

from camelid.align.alarms import Stats, Watch, gain, share_of_format, shown
from camelid.base.errors import CamelidError

QUIET = {
    "reward": 0.2,
    "reward_spread": 0.4,
    "right": 0.2,
    "parsed": 0.5,
    "right_if_parsed": 0.4,
    "groups_without_variance": 0.1,
    "cut": 0.0,
    "answer_tokens": 40.0,
    "entropy": 1.0,
    "kl": 0.1,
    "clip_fraction": 0.1,
    "explained_variance": 0.5,
}


def history(**changes: float) -> list[Stats]:
    return [QUIET] * 6 + [{**QUIET, **changes}] * 5


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        ({"entropy": 0.05}, "entropy", "fell from 1.000 to 0.050"),
        ({"answer_tokens": 90.0}, "length", "from 40 to 90 tokens"),
        ({"answer_tokens": 10.0}, "length", "from 40 to 10 tokens"),
        ({"cut": 0.6}, "cut", "60% of the answers end at the length limit"),
        ({"groups_without_variance": 0.9}, "variance", "in 90% of the groups"),
        ({"clip_fraction": 0.4}, "clipping", "40% of the tokens are clipped"),
        ({"explained_variance": -2.0}, "values", "explain -2.00 of the variance"),
        ({"reward": 0.9, "right": 0.1}, "over-optimised", "right answers fell from 20.0% to 10.0%"),
        ({"right": 0.4, "parsed": 1.0}, "format", "the policy learned the format"),
    ],
)
def test_each_alarm_shows_by_itself_and_explains(changes: dict[str, float], name: str, said: str) -> None:
    found = shown(history(**changes))
    assert list(found) == [name]
    assert said in found[name]


def test_right_answers_that_rose_and_fall_again_while_the_reward_rises() -> None:
    best = [{**QUIET, "right": 0.4, "parsed": 0.8, "right_if_parsed": 0.5, "reward": 0.5}] * 25
    now = [{**QUIET, "right": 0.25, "reward": 0.9}] * 5
    found = shown([QUIET] * 6 + best + now)
    assert "over-optimised" in found
    assert "from 0.500 to 0.900 while right answers fell from 40.0% to 25.0%" in found["over-optimised"]
    assert shown([QUIET] * 6 + best + [{**each, "reward": 0.4} for each in now]) == {}  # it fell, too


def test_a_quiet_run_shows_nothing() -> None:
    assert shown(history()) == {}
    ungraded = {name: value for name, value in QUIET.items() if "right" not in name and name != "parsed"}
    assert shown([QUIET] * 5 + [ungraded] * 3 + [QUIET] * 5) == {}  # prompts without a grader among questions
    assert shown(history(right=0.4, right_if_parsed=0.8, reward=0.4)) == {}  # better answers
    assert shown([{**QUIET, "cut": 1.0}] * 3) == {}  # too early to say


def test_a_gain_is_divided_exactly() -> None:
    first = {"right": 0.5 * 0.4, "parsed": 0.5, "right_if_parsed": 0.4}
    now = {"right": 0.9 * 0.6, "parsed": 0.9, "right_if_parsed": 0.6}
    by_answers = (0.6 - 0.4) * (0.5 + 0.9) / 2
    assert gain(first, now) == pytest.approx(0.34)
    assert share_of_format(first, now) == pytest.approx(0.4 * 0.5)
    assert share_of_format(first, now) + by_answers == pytest.approx(gain(first, now))


def test_an_alarm_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch(tmp_path / "metrics.jsonl", 100)
    with caplog.at_level(logging.WARNING):
        for stats in history(cut=0.6):
            watch.see(stats)
    assert [record.message.split(":")[0] for record in caplog.records] == ["cut"]


def test_gates(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "metrics.jsonl", 100, allow_cut=True)
    for _ in range(30):
        watch.check({**QUIET, "cut": 1.0})
    with pytest.raises(CamelidError, match="cannot be negative"):
        watch.check({**QUIET, "kl": -0.01})
    for kl in (101.0, float("nan")):
        with pytest.raises(CamelidError, match="the policy has left its language"):
            watch.check({**QUIET, "kl": kl})
    stops = Watch(tmp_path / "metrics.jsonl", 100)
    for _ in range(4):
        stops.check({**QUIET, "cut": 1.0})
    with pytest.raises(CamelidError, match="every answer ended at the length limit"):
        stops.check({**QUIET, "cut": 1.0})
