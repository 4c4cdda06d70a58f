"""The provenance of an artefact: the content of `run.json`, and of `camelid.json` beside a model."""

import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from camelid.base.digest import digest_path
from camelid.base.version import __version__
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
    """Versions, recipe, parents and data digests as one JSON object; `date` is recorded as given."""
    return {
        "camelid": __version__,
        "python": platform.python_version(),
        "torch": _version_of("torch"),
        "date": date,
        "recipe": None if recipe is None else recipe.model_dump(mode="json"),
        "parents": [asdict(parent) for parent in parents],
        "data": dict(data or {}),
    }


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
