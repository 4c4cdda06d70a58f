"""Which signals ask a run to stop between two steps."""

import signal

import pytest

from camelid.train.interrupt import stop_between_steps


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def number(request):
    before = signal.getsignal(request.param)
    yield request.param
    signal.signal(request.param, before)


def test_a_signal_is_a_request_and_its_handler_comes_back(number):
    heard = []
    signal.signal(number, lambda *given: heard.append(given[0]))
    with stop_between_steps() as stop:
        assert not stop
        signal.raise_signal(number)
        assert stop.signal == number
    signal.raise_signal(number)
    assert heard == [number]


def test_an_ignored_signal_stays_ignored(number):
    signal.signal(number, signal.SIG_IGN)
    with stop_between_steps() as stop:
        signal.raise_signal(number)
        assert not stop
    assert signal.getsignal(number) is signal.SIG_IGN


def test_under_nohup_torchrun_its_sighup_stops_the_run(monkeypatch):
    """torchrun heeds SIGHUP also under nohup, and 30 seconds later it kills its processes."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_between_steps() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.signal == signal.SIGHUP
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_interrupts_at_once():
    with stop_between_steps():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
