"""A model by its folder, its name on the hub or its server's address: `camelid.LM`."""

from pathlib import Path
from typing import Any

from camelid.base.digest import digest_path
from camelid.base.errors import CamelidError, WrongCall
from camelid.lm.interface import LM
from camelid.recipes.engine import EngineSettings
from camelid.recipes.server import ServerSettings
from camelid.recipes.settings import flag


def connect(path_or_url: str | Path, **settings: Any) -> LM:
    """The LM at an http(s) URL (an OpenAI-compatible server), or in a checkpoint folder or under a hub name.

    settings: those of `RemoteLM` (`model`, `api_key`, ...) for a URL, else those of `Engine.load` (`dtype`,
    ...).
    """
    if is_url(path_or_url):
        from camelid.lm.remote import RemoteLM

        return RemoteLM(str(path_or_url), **settings)
    from camelid.engine.engine import Engine

    return Engine.load(path_or_url, **settings)


def open_lm(path_or_url: str | Path, settings: EngineSettings, server: ServerSettings | None = None) -> LM:
    """The LM as a command line or a recipe asks for it.

    Raises `WrongCall` for settings of the engine with a URL, and for settings of a server without one.
    """
    given = settings.model_dump(exclude_defaults=True)
    asked = (server or ServerSettings()).model_dump(exclude_defaults=True)
    if is_url(path_or_url):
        if given:
            flags = ", ".join(map(flag, given))
            raise WrongCall(f"{flags}: for models that run here; a server has its own")
        if "model_name" in asked:
            asked["model"] = asked.pop("model_name")
        return connect(path_or_url, **asked)
    if asked:
        raise WrongCall(
            f"{', '.join(map(flag, asked))}: only for the URL of a server; {path_or_url} runs here"
        )
    if "dtype" in given:
        import torch

        given["dtype"] = getattr(torch, given["dtype"])
    return connect(path_or_url, **given)


def model_identity(model: str, engine: EngineSettings | None = None) -> str:
    """Identifies a model that runs here: the digest of its folder or its name and commit, and engine settings
    that change answers. A server's model is identified by `LM.identity`."""
    folder, engine = Path(model), engine or EngineSettings()
    if folder.is_dir():
        identity = f"sha256:{digest_path(folder)[:16]}"
    else:  # what a name on the hub stands for may change
        commit = hub_commit(model) if model.count("/") == 1 else None
        identity = f"{model}@{commit[:12]}" if commit else model
    settings = {"dtype", "cache", "adapter", "marker"}
    changes = engine.model_dump(include=settings, exclude_defaults=True)
    if engine.adapter is not None and Path(engine.adapter).is_dir():
        changes["adapter"] = f"sha256:{digest_path(Path(engine.adapter))[:16]}"
    return " ".join([identity, *(f"{name}={value}" for name, value in changes.items())])


def hub_commit(name: str) -> str | None:
    """The commit of a model on the hub, as it is cached here; None if `name` is not that of one."""
    from camelid.formats.hub import resolve

    try:
        folder = resolve(name)
    except CamelidError:
        return None
    return folder.name if folder.parent.name == "snapshots" else None


def is_url(model: str | Path) -> bool:
    """Whether a model is a server's, not one that runs here."""
    return str(model).startswith(("http://", "https://"))
