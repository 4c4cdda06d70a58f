"""The provenance of an artefact: the content of `run.json`, and of `camelid.json` beside a model."""

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from camelid.base.digest import digest_path
from camelid.base.json import write_json
from camelid.base.version import __version__
from camelid.recipes.recipe import Recipe
from camelid.runs.licences import (
    PUBLIC_CARD,
    Licence,
    as_rows,
    licences_of_model,
    model_card,
    unique,
)


@dataclass(frozen=True)
class Parent:
    """An artefact that a stage starts from: its name or path, the digest of its content, its licences."""

    name: str
    digest: str
    licences: tuple[Licence, ...] = ()

    @classmethod
    def of(cls, path: Path, licence: str | None = None) -> "Parent":
        """The parent at a path: a file or a folder, digested; licence: of a model, if stated by the user."""
        is_model = any((path / name).is_file() for name in ("config.json", "adapter_config.json"))
        licences = tuple(licences_of_model(path, licence)) if is_model else ()
        return cls(str(path), digest_path(path), licences)


def provenance(
    *,
    recipe: Recipe | None = None,
    parents: Iterable[Parent] = (),
    data: Mapping[str, str] | None = None,
    date: str | None = None,
    licences: Iterable[Licence] = (),
) -> dict[str, Any]:
    """Versions, recipe, parents, data digests and licences as one JSON object; `date` is recorded as given.

    licences: those of the data, recorded with the parents'.
    """
    parents = list(parents)
    return {
        "camelid": __version__,
        "python": platform.python_version(),
        "torch": _version_of("torch"),
        "date": date,
        "recipe": None if recipe is None else recipe.model_dump(mode="json"),
        "parents": [{"name": parent.name, "digest": parent.digest} for parent in parents],
        "data": dict(data or {}),
        "licences": as_rows(unique([*(each for p in parents for each in p.licences), *licences])),
    }


def write_provenance(folder: Path, made: Mapping[str, Any]) -> None:
    """Writes camelid.json, and a card that lists the licences, if any are recorded."""
    write_json(folder / "camelid.json", made)
    if made.get("licences"):
        (folder / PUBLIC_CARD).write_text(model_card(made), encoding="utf-8")


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
