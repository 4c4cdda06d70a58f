"""The folder for files kept between commands: CAMELID_HOME, by default ~/.cache/camelid."""

import os
import stat
from pathlib import Path

from camelid.base.errors import CamelidError


def camelid_home() -> Path:
    """The folder, which may not exist yet; raises `CamelidError` if this user has no home folder."""
    if given := os.environ.get("CAMELID_HOME"):
        return Path(given)
    try:
        return Path.home() / ".cache" / "camelid"
    except RuntimeError as error:  # neither HOME nor an entry in the list of users, as in some containers
        raise CamelidError("there is no home folder; set CAMELID_HOME to a folder of your own") from error


def make_home() -> Path:
    """The folder, created for this user only (mode 0700) if it does not exist."""
    home = camelid_home()
    home.parent.mkdir(parents=True, exist_ok=True)
    home.mkdir(mode=0o700, exist_ok=True)
    return home


def private_folder(name: str) -> Path:
    """CAMELID_HOME/name, created for this user only (mode 0700).

    Raises `CamelidError` if others could replace files in it, see `refuse_foreign`.
    """
    home = make_home()
    folder = home / name
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.name == "posix":
        for path in (folder,) if os.environ.get("CAMELID_HOME") else (home, folder):
            found = path.stat()
            if found.st_uid == os.geteuid() and found.st_mode & 0o022:
                path.chmod(stat.S_IMODE(found.st_mode) & ~0o022)  # of an older version, with a lax umask
    refuse_foreign(home)
    refuse_foreign(folder)
    return folder


def refuse_foreign(path: Path) -> None:
    """Raises `CamelidError` unless only this user (or root) owns `path` and can write to it.

    A folder that others can write to passes if it is sticky, as /tmp is: what we own in it stays ours.
    """
    if os.name != "posix":
        return
    found = path.stat()
    sticky = stat.S_ISDIR(found.st_mode) and bool(found.st_mode & stat.S_ISVTX)
    if found.st_uid not in (os.geteuid(), 0):
        raise CamelidError(
            f"{path} belongs to another user ({found.st_uid}), whose code is not run; "
            "set CAMELID_HOME to a folder of your own"
        )
    if found.st_mode & 0o022 and not sticky:
        raise CamelidError(
            f"{path} can be written by others (mode {stat.S_IMODE(found.st_mode):04o}), "
            "whose code is not run; "
            f"chmod go-w {path}, or set CAMELID_HOME to a folder of your own"
        )
