"""Processes end with the one that started them, also where it is killed."""

import signal
import subprocess
import sys
import time

import psutil
import pytest
from processes import status

DEAD = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)

PARENT = """
import os, subprocess, sys, time
child = "import os, sys, time; from camelid.base.parent import end_with_parent"
child += "; end_with_parent(int(sys.argv[1]))"
child += "; print(os.getpid(), flush=True); time.sleep(1000)"
subprocess.run([sys.executable, "-c", child, str(os.getpid())])
"""

# Enough text to keep two workers busy; what is tokenised is written nowhere.
TOKENISING = """
import itertools, sys
from camelid.data.rows.tokenise import encoded
from camelid.text.tokenizer import train_tokenizer

if __name__ == "__main__":
    tokenizer = train_tokenizer(["some words and some more"] * 20, 300)
    pieces = (("some words and more " * 60_000, "train", "here") for _ in itertools.count())
    for number, _ in enumerate(encoded(pieces, tokenizer, workers=2)):
        print(number, flush=True)
"""


def ended(processes: list[psutil.Process], seconds: float = 120) -> bool:
    """Whether all end in time; those that are dead and that nobody has waited for count as ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        alive = [each for each in processes if each.is_running() and status(each.pid) not in DEAD]
        if not alive:
            return True
        time.sleep(0.1)
    for each in alive:
        each.kill()
    return False


def test_a_child_ends_with_its_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        assert ended([child])


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["parent", "worker"])
def test_tokenising_processes_end_with_the_one_that_reads(tmp_path, killed) -> None:
    script = tmp_path / "tokenising.py"
    script.write_text(TOKENISING)
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        assert parent.stdout.readline() == "0\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        workers = [each for each in children if "spawn_main" in " ".join(each.cmdline())]
        assert len(workers) == 2
        if killed == "parent":
            parent.send_signal(signal.SIGKILL)
        else:
            workers[0].kill()
            for _ in parent.stdout:
                pass
            assert "one of 2 processes was killed" in parent.stderr.read()
        assert ended(children)
