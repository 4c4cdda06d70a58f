"""Sharing the cores: decisions on loads by hand, and threads that move and spin briefly while results
stay."""

import os
import threading

import pytest
import torch

from camelid.base import cores
from camelid.base.cores import CoreSharing, Mode, Reading, adapt_cores, best_core, choose_mode, share_cores


@pytest.mark.parametrize(
    ("others", "before", "may_move", "mode"),
    [
        (0.0, Mode.USUAL, True, Mode.USUAL),
        (0.1, Mode.USUAL, True, Mode.USUAL),  # a quiet machine's own programs
        (0.1, Mode.SHORT_SPIN, True, Mode.SHORT_SPIN),  # left at a lower load than it began
        (0.05, Mode.SHORT_SPIN, True, Mode.USUAL),
        (0.3, Mode.USUAL, True, Mode.SHORT_SPIN),
        (0.9, Mode.USUAL, True, Mode.ONE_CORE),
        (1.4, Mode.SHORT_SPIN, False, Mode.SHORT_SPIN),  # more than two cores
        (0.4, Mode.ONE_CORE, True, Mode.ONE_CORE),
        (0.3, Mode.ONE_CORE, True, Mode.SHORT_SPIN),
        (0.0, Mode.ONE_CORE, True, Mode.USUAL),
    ],
)
def test_the_mode_follows_the_load(others, before, may_move, mode):
    assert choose_mode(others, before, may_move=may_move) is mode


def test_the_use_by_others_is_that_of_the_cores_without_our_own():
    before = Reading(10.0, {0: 100.0, 1: 200.0}, own=50.0)
    others, each = Reading(12.0, {0: 102.0, 1: 201.5}, own=52.5).since(before)
    assert (others, each) == (pytest.approx(0.5), {0: pytest.approx(1.0), 1: pytest.approx(0.75)})


@pytest.mark.parametrize(
    ("each", "others", "now", "core"),
    [
        ({0: 1.0, 1: 0.6}, 0.8, None, 1),
        ({0: 1.0, 1: 1.0}, 1.0, None, 1),
        ({0: 1.0, 1: 1.0}, 1.0, 0, 0),  # the other program has moved to core 1
        ({0: 1.0, 1: 0.0}, 0.7, 0, 1),  # it is bound to core 0: make room
        ({0: 1.0, 1: 1.0}, 1.7, 0, 0),  # two programs, one on each
    ],
)
def test_the_core_with_room_is_shared(each, others, now, core):
    assert best_core(each, others, now) == core


class FakeTeam:
    def __init__(self, size=2):
        self.size, self.calls = size, []

    def spin_briefly(self, briefly):
        self.calls.append(briefly)

    def move(self, chosen):
        self.calls.append(list(chosen))


@pytest.fixture
def loads(monkeypatch):
    """Readings half a second apart beside the given loads, on two cores, half of each used by ourselves."""
    for name in (*cores.OWN_SPINNING, *cores.OWN_PLACES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    clock = {"at": 0.0, "own": 0.0, "each": 0.0}

    def now(_):
        return Reading(clock["at"], {0: clock["each"], 1: clock["each"]}, clock["own"])

    monkeypatch.setattr(Reading, "now", staticmethod(now))
    monkeypatch.setattr(cores.time, "monotonic", lambda: clock["at"])

    def advance(others):
        clock["at"] += 0.5
        clock["own"] += 0.5
        clock["each"] += (0.5 + 0.5 * others) / 2

    return advance


def test_threads_move_together_beside_a_busy_program_and_apart_after_it(loads):
    team = FakeTeam()
    sharing = CoreSharing(team)
    for others in (0.0, 1.0, 1.0, 0.0):
        loads(others)
        sharing.adapt()
        sharing.adapt()  # too early for another reading
    assert team.calls == [True, [1], False, [0, 1]]


def test_what_the_environment_says_is_left_alone(loads, monkeypatch):
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    team = FakeTeam()
    sharing = CoreSharing(team)
    loads(1.0)
    sharing.adapt()
    assert team.calls == [True]
    for name in cores.OWN_SPINNING:
        monkeypatch.setenv(name, "1000")
        assert CoreSharing(team).team is None
        monkeypatch.delenv(name)


def test_one_thread_has_nobody_to_wait_for(loads):
    team = FakeTeam(size=1)
    sharing = CoreSharing(team)
    loads(1.0)
    sharing.adapt()
    assert team.calls == []


def in_each_mode(compute):
    """The results of `compute` as usual, with short spinning, on one core, and as usual again."""
    results = [compute()]
    with cores.sharing_cores():
        sharing = cores._local.sharing
        for mode, core in ((Mode.SHORT_SPIN, None), (Mode.ONE_CORE, sharing.home[-1]), (Mode.USUAL, None)):
            sharing.take(mode, core)
            results.append(compute())
    return results


@pytest.fixture
def threads(monkeypatch):
    for name in (*cores.OWN_SPINNING, *cores.OWN_PLACES):
        monkeypatch.delenv(name, raising=False)
    if cores._team() is None:
        pytest.skip("torch here does not use GNU's OpenMP")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_no_mode_changes_a_bit_of_the_result(threads):
    draws = torch.Generator().manual_seed(0)
    a, b = (torch.randn(300, 300, generator=draws) for _ in range(2))
    first, *others = in_each_mode(lambda: torch.softmax(a @ b, -1).cumsum(0))
    assert all(torch.equal(first, other) for other in others)


def test_only_the_team_moves_and_comes_back(threads):
    home = os.sched_getaffinity(0)
    end = threading.Event()
    stranger = threading.Thread(target=end.wait)
    stranger.start()
    try:
        with cores.sharing_cores():
            sharing = cores._local.sharing
            core = sharing.home[-1]
            sharing.take(Mode.ONE_CORE, core)
            assert os.sched_getaffinity(0) == {core}
            where: list[set[int]] = []
            sharing.team.run_in_each(lambda: where.append(os.sched_getaffinity(0)))
            assert where == [{core}, {core}]
            assert os.sched_getaffinity(stranger.native_id) == home
        assert os.sched_getaffinity(0) == home
    finally:
        end.set()
        stranger.join()
    assert not [thread for thread in threading.enumerate() if thread.name == "short-spin"]


def test_the_threads_come_back_after_an_error_and_when_a_loop_is_left(threads):
    home = os.sched_getaffinity(0)

    def leave_early():
        for item in share_cores(range(3)):
            cores._local.sharing.take(Mode.ONE_CORE, min(home))
            assert item == 0
            raise ValueError("left early")

    with pytest.raises(ValueError, match="left early"):
        leave_early()
    assert os.sched_getaffinity(0) == home
    assert list(share_cores("abc")) == ["a", "b", "c"]
    adapt_cores()  # outside: nothing


def test_torchs_own_library_is_taken():
    maps = [
        "7f00-7f01 r-xp 00000000 08:01 5    /site/scikit_learn.libs/libgomp-a34b3233.so.1.0.0",
        "7f02-7f03 r-xp 00000000 08:01 6    /site/torch/lib/libgomp.so.1",
        "7f04-7f05 r-xp 00000000 08:01 7    /site/torch/lib/libtorch_cpu.so",
    ]
    assert cores._gomp_path(maps) == "/site/torch/lib/libgomp.so.1"
    assert cores._gomp_path(maps[2:]) is None
