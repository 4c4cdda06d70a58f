"""Progress: one line on a terminal of any width, a line every few seconds elsewhere, and smoothed speeds."""

import io
import logging
from dataclasses import dataclass

import pytest
from rich.console import Console

from camelid.base import progress
from camelid.base.progress import Display, OneLine, Pace, StepLog, track


@dataclass
class Update:
    number: int
    tokens: int = 4096
    seconds: float = 0.1
    loss: float = 3.21987
    learning_rate: float = 6.89e-4
    grad_norm: float = 0.78
    trained_tokens: int = 4000


class Validation:
    measures = {"loss": 6.1162, "bits_per_byte": 3.4904}  # noqa: RUF012


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def terminal(width, **settings):
    return Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, **settings)


@pytest.mark.parametrize("width", [1, 12, 30, 60, 100, 200])
def test_the_live_line_stays_one_line_at_every_width(width):
    console = terminal(width)
    fields = [(0, "step 300/2000"), (2, "loss 3.2199"), (3, "tok/s 12,345"), (1, "eta 4m10s")]
    lines = console.render_lines(OneLine(0.15, fields), pad=False)
    assert len(lines) == 1
    shown = "".join(segment.text for segment in lines[0])
    assert len(shown) < max(width, 2)
    assert shown.strip().startswith("step 300/2000"[: max(0, width - 1)] if width <= 60 else "━")
    assert ("eta" in shown) == (width >= 30)
    assert ("tok/s" in shown) == (width >= 60)


def test_a_terminal_gets_only_lines_that_fit_and_validations(clock):
    console = terminal(70)
    with StepLog(50, 1e-9, console=console) as log:
        for number in range(50):
            clock.now += 0.1
            log.step(Update(number))
        log.validation(49, Validation())
    written = console.file.getvalue()
    assert "step 50/50" in written
    assert "validation loss 6.1162  bits/byte 3.4904" in written
    assert written.count("\n") <= 4  # the line at the end, and those of the validation


def test_plain_output_says_something_every_few_seconds_and_at_both_ends(clock, caplog):
    console = Console(file=io.StringIO(), force_terminal=False)
    with caplog.at_level(logging.INFO, "camelid"), StepLog(200, 1e-9, console=console) as log:
        records = []
        for number in range(200):
            clock.now += 0.1
            records.append(log.step(Update(number)))
    shown = [int(message.split("/")[0].removeprefix("step ")) for message in caplog.messages]
    assert shown[0] == 1
    assert shown[-1] == 200
    assert 5 <= len(shown) <= 7  # 20 seconds
    assert [record["step"] for record in records] == list(range(1, 201))
    assert caplog.messages[-1].endswith("eta 0s")
    assert console.file.getvalue() == ""


def test_speed_and_time_left_are_smoothed_and_forget_the_first_step(clock, caplog):
    console = Console(file=io.StringIO(), force_terminal=False)
    with caplog.at_level(logging.INFO, "camelid"), StepLog(1000, 1e-9, console=console) as log:
        clock.now += 30
        log.step(Update(0, seconds=30.0))  # compiles
        for number in range(1, 101):
            slow = number % 10 == 0
            clock.now += 1.0 if slow else 0.5
            log.step(Update(number, tokens=1000, seconds=1.0 if slow else 0.5))
    speeds = [float(message.split("tok/s ")[1].split()[0].replace(",", "")) for message in caplog.messages]
    assert speeds[-1] == pytest.approx(1000 / 0.55, rel=0.06)
    # From the newest line to the end of the job, at 0.55 s a step.
    step = int(caplog.messages[-1].split("/")[0].removeprefix("step "))
    minutes, seconds = caplog.messages[-1].split("eta ")[1].removesuffix("s").split("m")
    assert int(minutes) * 60 + int(seconds) == pytest.approx((1000 - step) * 0.55, rel=0.06)


def test_the_time_left_holds_what_happens_every_few_steps():
    """PPO: one update in four waits for a rollout."""
    pace = Pace()
    for seconds in [20.0, 20.0, 20.0, 140.0] * 10:
        pace.add(100, seconds)
    left = []
    for seconds in [20.0, 20.0, 20.0, 140.0]:
        pace.add(100, seconds)
        left.append(pace.seconds_for(100))
    assert all(0.75 * 5000 < each < 1.35 * 5000 for each in left), left


def test_the_record_has_the_values_of_its_own_step(clock):
    log = StepLog(3, 1e-6, show=False)
    log.step(Update(0, tokens=100, seconds=1.0))
    record = log.step(Update(1, tokens=100, seconds=0.5))
    assert record["tokens_per_second"] == 200
    assert record["mfu"] == pytest.approx(2e-4)
    assert "mfu" not in StepLog(3, None, show=False).step(Update(0, tokens=100, seconds=1.0))
    assert (record["step"], record["trained_tokens"], record["seconds"]) == (2, 4000, 0.5)


def test_items_are_counted_on_a_plain_stream(clock, caplog):
    def items():
        for item in range(100):
            clock.now += 0.3
            yield item

    with caplog.at_level(logging.INFO, "camelid"):
        assert list(track(items(), "questions", 100)) == list(range(100))
    assert caplog.messages[-1] == "questions  100/100  30s"
    assert len(caplog.messages) <= 8


def test_nothing_is_shown_where_another_process_shows(caplog):
    with caplog.at_level(logging.INFO, "camelid"), Display(show=False) as display:
        display.update(0.5, [(0, "step 1/2")], always=True)
        display.say("validation loss 6.1")
    assert caplog.messages == []
    assert list(track([1, 2], "items", show=False)) == [1, 2]


def test_a_terminal_without_a_cursor_gets_plain_lines(monkeypatch, caplog):
    monkeypatch.setenv("TERM", "dumb")
    console = terminal(80)
    with caplog.at_level(logging.INFO, "camelid"), StepLog(1, 1e-9, console=console) as log:
        log.step(Update(0))
    assert len(caplog.messages) == 1
    assert "\x1b" not in console.file.getvalue()


def test_a_terminal_of_ascii_gets_ascii():
    written = io.BytesIO()
    console = Console(file=io.TextIOWrapper(written, "ascii"), force_terminal=True, width=60)
    console.print(OneLine(0.5, [(0, "step 1/2")]))
    console.file.flush()
    assert b"step 1/2" in written.getvalue()
    assert b"##" in written.getvalue()
