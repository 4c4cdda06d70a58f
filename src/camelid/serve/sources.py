"""What `camelid serve` is asked to serve: folders and hub names, and adapters under names of their own."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.memory import free_memory, parse_size
from camelid.engine.blocks import BLOCK_TOKENS
from camelid.engine.device import choose_device
from camelid.engine.engine import Engine
from camelid.engine.memory import plan
from camelid.engine.native.decoder import block_bytes
from camelid.engine.open_lm import is_url, open_lm
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_config, read_spec
from camelid.formats.hugging_face.peft_folder import WEIGHTS, base_of, is_adapter
from camelid.formats.load import stored_dtype
from camelid.recipes.engine import EngineSettings
from camelid.recipes.serve import ServeSettings
from camelid.serve.models import Models, Served, Source

CACHE_SHARE = 2
"""The caches of all models together take at most this part of the budget."""


class Asked(NamedTuple):
    """One model of the command line; `parent` is the name of an adapter's base."""

    name: str
    folder: str
    adapter: Path | None = None
    parent: str | None = None


def load_models(models: Sequence[str], settings: ServeSettings, engine: EngineSettings) -> Models:
    """The models of a server, the first of them loaded, so that a fault shows before the first request.

    A single model stays loaded and needs no budget. Of several, the headers of all are read.
    """
    asked = _all_asked(models, settings.adapter)
    if len(asked) == 1 and settings.memory is None:
        [one] = asked
        served = Served(one.name, _open(one, engine), most_tokens=settings.max_tokens)
        _ = served.engine.decoder  # with its memory
        return Models([served])
    place = choose_device(engine.device)
    budget = free_memory(place) if settings.memory is None else parse_size(settings.memory)
    share = budget // CACHE_SHARE // len(asked)
    made = Models([_source(each, engine, share, place) for each in asked], budget, settings.max_tokens)
    made.load(asked[0].name)
    return made


def name_of(model: str) -> str:
    """The name under which a folder or hub name is served: a run's `model` folder has its run's name."""
    path = Path(model)
    if not path.exists():
        return model
    resolved = path.resolve()
    return resolved.parent.name if resolved.name in ("model", "adapter") else resolved.name


def _all_asked(models: Sequence[str], adapters: Sequence[str]) -> list[Asked]:
    if not models:
        raise WrongCall("no model given: camelid serve MODEL")
    if urls := [each for each in models if is_url(each)]:
        raise WrongCall(f"{urls[0]} is a server already; camelid serve takes folders and hub names")
    bases = [Asked(name_of(each), each) for each in models]
    return [*bases, *(_adapter(each, bases) for each in adapters)]


def _adapter(given: str, bases: Sequence[Asked]) -> Asked:
    """An adapter, `NAME=FOLDER` or a folder that gives its name, with the model that it is for."""
    name, equals, path = given.rpartition("=")
    folder = Path(path)
    if not is_adapter(folder) or (equals and not name):
        raise WrongCall(f"--adapter {given}: expected NAME=FOLDER with the folder of an adapter")
    named = name or name_of(path)
    if len(bases) == 1:
        return Asked(named, bases[0].folder, folder, bases[0].name)
    wanted = base_of(folder)
    for base in bases:
        if wanted == base.folder or _same_folder(wanted, base.folder):
            return Asked(named, base.folder, folder, base.name)
    raise WrongCall(
        f"--adapter {given}: its base is {wanted}, which is not one of the models; serve that one too, or "
        "the adapter with its base only"
    )


def _same_folder(first: str, second: str) -> bool:
    paths = Path(first), Path(second)
    return all(path.is_dir() for path in paths) and paths[0].samefile(paths[1])


def _source(asked: Asked, engine: EngineSettings, share: int, place: torch.device) -> Source:
    """A model with the memory that it will take: its cache has its share of the budget, at least one
    context and at most one for each sequence of a batch."""
    folder = resolve(asked.folder)
    spec, stored = read_spec(folder), stored_dtype(read_config(folder))
    dtype = stored if engine.dtype == "stored" else getattr(torch, engine.dtype)
    token = -(-block_bytes(spec, dtype, engine.cache) // BLOCK_TOKENS)
    most = engine.max_batch * spec.context_length
    tokens = engine.cache_tokens or max(spec.context_length, min(most, share // token))
    need = plan(folder, dtype, device=place).asked
    size = need.weights.size + need.working + tokens * token
    if asked.adapter is not None:
        size += (asked.adapter / WEIGHTS).stat().st_size
    settings = engine.model_copy(update={"cache_tokens": tokens})
    return Source(asked.name, partial(_open, asked, settings), size, spec.context_length, asked.parent)


def _open(asked: Asked, engine: EngineSettings) -> Engine:
    adapter = None if asked.adapter is None else str(asked.adapter)
    opened = open_lm(asked.folder, engine.model_copy(update={"adapter": adapter}))
    if not isinstance(opened, Engine):
        raise CamelidError(f"{asked.folder} cannot be served")
    return opened
