"""Machines that lack something: no home folder, no /proc, a terminal that has closed."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from camelid.base.errors import CamelidError
from camelid.base.home import camelid_home
from camelid.base.memory import free_memory, peak_memory, resident_memory
from camelid.engine.line_history import line_history


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs with a number for which there is no user."""

    def nobody(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("HOME", "CAMELID_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)


def test_without_a_home_folder_it_is_said_what_to_set(
    homeless: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CamelidError, match="there is no home folder; set CAMELID_HOME"):
        camelid_home()
    monkeypatch.setenv("CAMELID_HOME", str(tmp_path))
    assert camelid_home() == tmp_path


@pytest.mark.parametrize("trouble", ["no home", "a file in its way", "a full disk"])
def test_a_chat_goes_on_where_what_is_typed_cannot_be_kept(
    trouble: str,
    homeless: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "camelid")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    if trouble == "a file in its way":
        (tmp_path / "file").touch()
        monkeypatch.setenv("CAMELID_HOME", str(tmp_path / "file"))
    if trouble == "a full disk":
        monkeypatch.setenv("CAMELID_HOME", str(tmp_path))
        monkeypatch.setattr("readline.write_history_file", full_disk)
    with pytest.raises(ValueError, match="the first error"), line_history():
        raise ValueError("the first error")
    assert ("is typed here is not kept" in caplog.text) == (trouble != "a full disk")


def full_disk(path: Path) -> None:
    raise OSError(28, "No space left on device")


def test_without_proc_memory_is_measured_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = free_memory(), resident_memory()
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    monkeypatch.setattr("camelid.base.memory.PROC", tmp_path)
    assert 0 < free_memory() < 4 * known[0]
    assert known[1] / 4 < resident_memory() == peak_memory()


def test_after_the_terminal_has_closed_output_goes_nowhere() -> None:
    """Every write to it would fail, also that of the message that the state is saved."""
    script = (
        "import os, sys\nfrom camelid.base.logs import leave_terminal\n"
        "sys.stdin.read()\nleave_terminal()\nprint('x', flush=True)\nprint('y', file=sys.stderr, "
        "flush=True)\n"
        "os.close(2)\nleave_terminal()\n"
    )
    screen, other = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=other, stderr=other
    ) as process:
        os.close(other)
        os.close(screen)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0
