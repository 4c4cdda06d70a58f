"""`bench/train.py` leaves out a peer that fails, by name, and measures the others also on a busy machine."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench" / "train.py"

# Contenders that answer, that fail at their import as a broken installation does, and that fail later.
STEADY = """
import sys
for line in sys.stdin:
    print('{"seconds": %s, "megabytes": 100.0}' % ([0.5] * int(line)), flush=True)
"""
BROKEN = "raise ImportError('libmissing.so: cannot open shared object file')"
LATER = STEADY.replace("in sys.stdin:", "in (sys.stdin.readline() for _ in range(2)):")


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_train", BENCH)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def contenders(bench, monkeypatch):
    """Sets the programs of the contenders, by name."""

    def use(programs):
        def start(name, python):
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = subprocess.Popen([sys.executable, "-c", programs[name]], **pipes)
            if programs[name] is BROKEN:
                process.wait()  # so that the pipe is closed, as when an import fails during a long warm-up
            return bench.Contender(name, process)

        monkeypatch.setattr(bench.Contender, "start", start)
        return list(programs)

    return use


def test_a_peer_that_fails_is_named_and_the_others_go_on(bench, contenders, capfd):
    names = contenders(
        {
            "ours": STEADY,
            "transformers-eager": BROKEN,
            "transformers-compiled": LATER,
            "litgpt-compiled": STEADY,
        }
    )
    rows = list(bench.comparisons(bench.measure(names, sys.executable, turns=2, steps=2)))
    shown = capfd.readouterr().err
    assert shown.count("transformers-eager is left out: it ended with the message above") == 1
    assert shown.count("transformers-compiled is left out") == 1
    assert "libmissing.so" in shown
    assert "BrokenPipeError" not in shown
    peers = {row["peer_name"] for row in rows if row["name"].startswith("busy")}
    assert peers == {"LitGPT, bf16 mixed, compiled", "ours alone"}


def test_rows_of_a_busy_machine_stand_beside_the_others(bench, contenders):
    names = contenders({"ours": STEADY, "litgpt-compiled": STEADY})
    rows = list(bench.comparisons(bench.measure(names, sys.executable, turns=1, steps=1)))
    by_name = [row["name"] for row in rows]
    for expected in ("train 33.7M", "memory 33.7M", "busy 1, 33.7M", "busy 2, 33.7M"):
        assert any(name.startswith(expected) for name in by_name), expected
    for row in rows:
        assert set(row) == {"name", "ours", "peer", "peer_name", "unit", "ratio"}
        assert row["ratio"] == 1.0


def test_busy_processes_end_with_the_measurement(bench):
    with bench.busy(2):
        assert len(busy_loops()) == 2
    assert busy_loops() == []


def busy_loops():
    """The command lines of this process's children that loop."""
    children = psutil.Process().children()
    return [child.pid for child in children if "while True: pass" in " ".join(child.cmdline())]
