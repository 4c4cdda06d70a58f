"""`camelid chat` without standard streams, home folder or valid input: an exit code and one message, no
traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import pathlib, sys
from camelid.engine import terminal
from camelid.lm.scripted import ScriptedLM
terminal.open_lm = lambda *_: ScriptedLM(lambda _: "answer")
def home():
    raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = home
from camelid.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def run(redirection: str, *words: str, typed: bytes = b"hi\n") -> tuple[int, str, str]:
    variables = {key: value for key, value in os.environ.items() if key not in ("HOME", "CAMELID_HOME")}
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", SCRIPT, *words],
        input=typed,
        capture_output=True,
        env={**variables, "PYTHONUTF8": "1"},
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(
    ("redirection", "words", "code", "output", "error"),
    [
        ("", ["chat", "m"], 0, "answer\n", ""),
        (">&-", ["chat", "m"], 2, "", "standard output is closed"),
        (">&-", ["generate", "m", "--prompt", "x"], 2, "", "standard output is closed"),
        ("<&-", ["chat", "m"], 0, "", ""),
        ("<&-", ["generate", "m", "--prompt", "-"], 2, "", "standard input, which is closed"),
        ("2>&-", ["chat", "m"], 0, "answer\n", ""),
    ],
)
def test_closed_streams(redirection: str, words: list[str], code: int, output: str, error: str) -> None:
    found = run(redirection, *words)
    assert found[:2] == (code, output)
    assert error in found[2]
    assert "Traceback" not in found[2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_message() -> None:
    code, _, error = run(">/dev/full", "chat", "m")
    assert code == 1
    assert "disk is full" in error
    assert "Traceback" not in error
