"""Files and folders appear whole, where they were asked for, or not at all."""

import os
from pathlib import Path

import pytest

from camelid.base.atomic import atomic_file, atomic_folder
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
