"""How one architecture of transformers maps to a `ModelSpec`: its config.json, and where its file keeps our parameters."""

from collections.abc import Callable
from dataclasses import dataclass, field
from re import Pattern, compile
from typing import Any

from camelid.formats.hugging_face.families.config import Config
from camelid.formats.names import Place
from camelid.model.spec import ModelSpec


@dataclass(frozen=True)
class Family:
    """One architecture: the reader and the writer of its config.json, and the places of its tensors.

    A spec that reader and writer do not give back as it was cannot be expressed by this architecture.
    """

    architecture: str
    model_type: str
    read: Callable[[Config], ModelSpec]
    write: Callable[[ModelSpec], dict[str, Any]]
    place: Callable[[ModelSpec, str], Place]
    ignored: Pattern[str] = field(default=compile(r".*rotary_emb\.inv_freq"))
    """Tensors that some files hold and every reader leaves alone."""
    optional_prefix: str = ""
    """What some files leave out before every name."""
    quantizable: bool = True
    """Whether the public quantised layouts have a place for this architecture's linears."""
