"""Reward functions of users in their own process: what they are given, and every way in which they fail."""

import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import psutil
import pytest
from processes import status

from camelid.base.errors import CamelidError, WrongCall
from camelid.tasks.reward_function import RewardFunction, Sample
from camelid.text.conversation import Conversation, Message

FILE = """
import helper_of_rewards
print("printed while importing")
def words(completion): return len(completion.split())
def right(prompt, completion, answer): print(prompt); return answer in completion
def given(completion, **columns): return sorted(columns) == ["answer", "prompt"]
def turns(prompt, completion): return len(prompt) + len(prompt[0]["content"]) / 10
def trl(prompts, completions, answer, **others): return [float(answer[0] == completions[0])]
def helped(completion): return helper_of_rewards.VALUE
def nothing(completion): return None
def nan(completion): return float("nan")
def text(completion): return "1"
def many(completion): return [1, 2]
def broken(completion): return 1 / (len(completion) - 5)
def hangs(completion):
    import re
    return 1.0 if len(completion) < 9 else bool(re.fullmatch("(a+)+b", "a" * 40))
def forks(completion):
    import multiprocessing, pathlib, time
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    child.start()
    pathlib.Path(completion).write_text(str(child.pid))
    time.sleep(600)
def day(completion, began): return float(began[:4])
def exits(completion): import os; os._exit(3)
def lacks(completion, colour): return 1.0
def other(text): return 1.0
value = 3
"""
SAMPLES = [
    Sample("2 + 2?", "It is 4", {"answer": "4"}),
    Sample("3 + 3?", "five!", {"answer": "6"}),
]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., RewardFunction]]:
    (tmp_path / "helper_of_rewards.py").write_text("VALUE = 2.5\n")
    (tmp_path / "rewards.py").write_text(FILE)
    opened = []

    def build(name: str, seconds: float = 60.0) -> RewardFunction:
        opened.append(RewardFunction(f"{tmp_path / 'rewards.py'}:{name}", seconds))
        return opened[-1]

    yield build
    for each in opened:
        each.close()


def test_functions_get_the_columns_that_they_name(load: Callable[..., RewardFunction]) -> None:
    talk = Sample(Conversation((Message("user", "Hello"),)), "Hi")
    assert load("words").score(SAMPLES) == [3, 1]
    assert load("right").score(SAMPLES) == [1, 0]
    assert load("given").score(SAMPLES) == [1, 1]
    assert load("turns").score([talk]) == [1.5]
    assert load("trl").score([*SAMPLES, Sample("", "4", {"answer": "4"})]) == [0, 0, 1]
    assert load("helped").score(SAMPLES[:1]) == [2.5]
    assert talk.conversation.as_dicts()[1] == {"role": "assistant", "content": "Hi"}
    assert Sample("a", "b").conversation == Conversation.of(("a", "b"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "returned None"),
        ("nan", "returned nan"),
        ("text", "returned '1'"),
        ("many", r"returned \[1, 2\]"),
        (
            "broken",
            r"raised ZeroDivisionError: .*rewards.py:14\).*sample 1, completion 'five!' of prompt '3 \+ 3",
        ),
        ("exits", "ended its process; sample 0"),
        ("lacks", "takes colour, and the sample has answer, completion, prompt"),
    ],
)
def test_what_is_not_a_number_is_named_with_its_sample(
    load: Callable[..., RewardFunction], name: str, message: str
) -> None:
    function = load(name)
    with pytest.raises(CamelidError, match=f"rewards.py:{name} .*{message}"):
        function.score(SAMPLES)


def test_a_function_that_hangs_is_ended_and_the_next_call_starts_another(
    load: Callable[..., RewardFunction],
) -> None:
    function = load("hangs", 1.0)
    with pytest.raises(
        CamelidError, match=r"gave no answer in 1 seconds; sample 0, completion 'much too long'"
    ):
        function.score([Sample("", "much too long")])
    function.seconds = 60.0
    assert function.score([Sample("", "brief")]) == [1.0]


def test_a_function_that_hangs_is_ended_with_the_processes_that_it_started(
    load: Callable[..., RewardFunction], tmp_path: Path
) -> None:
    function = load("forks", 3.0)
    with pytest.raises(CamelidError, match="gave no answer in 3 seconds"):
        function.score([Sample("", str(tmp_path / "child"))])
    child, end = int((tmp_path / "child").read_text()), time.monotonic() + 30
    while status(child) not in (psutil.STATUS_DEAD, psutil.STATUS_ZOMBIE):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_columns_of_any_kind_reach_a_function(load: Callable[..., RewardFunction]) -> None:
    """A row of Parquet may hold dates."""
    assert load("day").score([Sample("", "x", {"began": date(2023, 5, 1), "raw": b"x"})]) == [2023]


def test_files_without_the_function_are_refused(load: Callable[..., RewardFunction], tmp_path: Path) -> None:
    with pytest.raises(CamelidError, match=r"defines no function value"):
        load("value")
    with pytest.raises(CamelidError, match=r"takes text; a reward function takes completion"):
        load("other")
    with pytest.raises(WrongCall, match="no such file"):
        RewardFunction(f"{tmp_path}/absent.py:words")
    with pytest.raises(WrongCall, match=r"give FILE\.py:NAME"):
        RewardFunction("rewards")
    (tmp_path / "wrong.py").write_text("x = 1\ny = x / 0\n")
    with pytest.raises(CamelidError, match=r"wrong.py:2: ZeroDivisionError"):
        RewardFunction(f"{tmp_path}/wrong.py:words")
