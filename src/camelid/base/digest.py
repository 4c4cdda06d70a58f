"""Digests of files and folders, to detect changes of data and models."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from camelid.base.errors import WrongCall


def digest_file(path: Path) -> str:
    """Sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_path(path: Path) -> str:
    """Sha256 of a file, or of the names and digests of all files below a folder, except dot files."""
    if path.is_file():
        return digest_file(path)
    if not path.is_dir():
        raise WrongCall(f"{path}: no such file or folder")
    whole = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")):
        whole.update(
            f"{file.relative_to(path).as_posix()}\0{digest_file(file)}\n".encode(errors="surrogateescape")
        )
    return whole.hexdigest()


def digest_paths(paths: Iterable[Path]) -> dict[str, str]:
    """The digest of each path, by its name."""
    return {str(path): digest_path(path) for path in paths}
