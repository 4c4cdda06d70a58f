"""Maps one architecture of transformers to a `ModelSpec`: its config.json and parameter names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from re import Pattern, compile
from typing import Any

from camelid.formats.hugging_face.families.config import Config
from camelid.formats.names import Place
from camelid.model.spec import ModelSpec


@dataclass(frozen=True)
class Family:
    """One architecture: reader and writer of its config.json, and the names of its tensors.

    If a spec changes when written and read back, the architecture cannot express it.
    """

    architecture: str
    model_type: str
    read: Callable[[Config], ModelSpec]
    write: Callable[[ModelSpec], dict[str, Any]]
    place: Callable[[ModelSpec, str], Place]
    ignored: Pattern[str] = field(default=compile(r".*rotary_emb\.inv_freq"))
    """Tensors in some files that every reader ignores."""
    other_names: Mapping[str, str] = field(default_factory=dict)
    """Tensors that some files hold under another name: from it to ours."""
    optional_prefix: str = ""
    """A prefix that some files omit from every name."""
    quantizable: bool = True
    """Whether the public quantised layouts support this architecture's linears."""
