"""Files and folders appear whole, where they were asked for, or not at all."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from camelid.base.atomic import atomic_file, atomic_folder, write_text_atomically
from camelid.base.errors import CamelidError


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed_and_stays(tmp_path: Path, exists: bool) -> None:
    real, link = tmp_path / "disk" / "real", tmp_path / "link"
    link.symlink_to(real, target_is_directory=True)
    if exists:
        real.mkdir(parents=True)
    with atomic_folder(link) as draft:
        (draft / "made").write_text("made")
    assert link.is_symlink()
    assert (real / "made").read_text() == "made"
    assert {path.name for path in (*tmp_path.iterdir(), *real.parent.iterdir())} == {"disk", "link", "real"}
    file = tmp_path / "file"
    file.symlink_to(real / "other")
    with atomic_file(file) as draft:
        draft.write_text("other")
    assert file.is_symlink()
    assert (real / "other").read_text() == "other"


def test_what_cannot_be_exchanged_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "disk")
    for target, message in [
        ("disk", "is a mount point, which cannot be replaced; give a folder inside it"),
        (".", "is the current folder, which cannot be replaced"),
        ("a\0b", "contains a zero byte"),
    ]:
        with pytest.raises(CamelidError, match=message), atomic_folder(Path(target)):
            pytest.fail("the work began")
    assert [path.name for path in tmp_path.iterdir()] == ["disk"]


WRITER = """
import sys, time
from pathlib import Path
from camelid.base import atomic
with getattr(atomic, sys.argv[1])(Path(sys.argv[2])) as draft:
    (draft / "half" if draft.is_dir() else draft).write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["atomic_file", "atomic_folder"])
def test_a_place_has_one_writer_and_a_killed_one_leaves_nothing_for_long(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "made"
    write = atomic_file if kind == "atomic_file" else atomic_folder
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, kind, str(target)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        refusal = f"made is being written by process {writer.pid} on .+; wait for it or choose another name"
        with pytest.raises(CamelidError, match=refusal), write(target):
            pytest.fail("two at once")
        writer.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.glob(".made.*.partial"))) == 1
    # Of another writer whose target's name begins alike, and of a container where it had the same id.
    others = (tmp_path / ".made.more.1f.partial", tmp_path / f".made.{os.getpid()}.partial")
    for other in others:
        other.mkdir()
    with write(target) as draft:
        assert not others[1].exists()
        (draft / "whole" if draft.is_dir() else draft).write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"made", others[0].name}


def test_drafts_have_names_of_their_own(tmp_path: Path) -> None:
    """A process's id is no name: in containers, several have the same."""
    seen = set()
    for _ in range(3):
        with atomic_folder(tmp_path / "made", replace=True) as draft:
            seen.add(draft.name)
    assert len(seen) == 3


def test_where_there_are_no_locks_it_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    (tmp_path / ".made.1f.partial").mkdir()  # perhaps somebody writes it
    with atomic_folder(tmp_path / "made") as draft:
        (draft / "x").write_text("x")
    assert {path.name for path in tmp_path.iterdir()} == {"made", ".made.1f.partial"}


def test_an_error_is_told_although_the_draft_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(ValueError, match="the first error"), atomic_folder(tmp_path / "folder"):
        raise ValueError("the first error")
    with pytest.raises(ValueError, match="the first error"), atomic_file(tmp_path / "file"):
        raise ValueError("the first error")


def test_many_writers_of_one_text_leave_one_whole_text(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom camelid.base.atomic import write_text_atomically\n"
        "for _ in range(40): write_text_atomically(Path(sys.argv[1]), sys.argv[2] * 9999)\n"
    )
    target = tmp_path / "text"
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(target), letter], stderr=subprocess.PIPE)
        for letter in "abc"
    ]
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [(b"", 0)] * 3
    assert target.read_text() in [letter * 9999 for letter in "abc"]
    assert [path.name for path in tmp_path.iterdir()] == ["text"]
    write_text_atomically(target, "d")
    assert target.read_text() == "d"
