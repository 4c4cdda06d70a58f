"""Where an artefact comes from: the content of `run.json`, and of `camelid.json` beside a model."""

import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from camelid import __version__
from camelid.base.errors import WrongCall
from camelid.recipes.recipe import Recipe


@dataclass(frozen=True)
class Parent:
    """An artefact that a stage starts from: its name or path, and the digest of its content."""

    name: str
    digest: str

    @classmethod
    def of(cls, path: Path) -> "Parent":
        """The parent at a path: a file or a folder, digested."""
        return cls(str(path), digest_path(path))


def provenance(
    *,
    recipe: Recipe | None = None,
    parents: Iterable[Parent] = (),
    data: Mapping[str, str] | None = None,
    date: str | None = None,
) -> dict[str, Any]:
    """Versions, recipe, parents and data digests as one JSON object; `date` as the caller tells it."""
    return {
        "camelid": __version__,
        "python": platform.python_version(),
        "torch": _version_of("torch"),
        "date": date,
        "recipe": None if recipe is None else recipe.model_dump(mode="json"),
        "parents": [asdict(parent) for parent in parents],
        "data": dict(data or {}),
    }


def digest_file(path: Path) -> str:
    """Sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_path(path: Path) -> str:
    """Sha256 of a file, or of the names and digests of all files below a folder; dot files do not count."""
    if path.is_file():
        return digest_file(path)
    if not path.is_dir():
        raise WrongCall(f"{path}: no such file or folder")
    whole = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")):
        whole.update(f"{file.relative_to(path).as_posix()}\0{digest_file(file)}\n".encode())
    return whole.hexdigest()


def digest_paths(paths: Iterable[Path]) -> dict[str, str]:
    """The digest of each path, by its name."""
    return {str(path): digest_path(path) for path in paths}


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
