"""Camelid: the survey of language models, made runnable.

    model = camelid.load_model("runs/first/model")        # logits = model(token_ids)
    tokenizer = camelid.load_tokenizer("runs/first/model")
    lm = camelid.LM("runs/first/model")                   # or the URL of an OpenAI-compatible server

Importing this package imports no torch: each name is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from camelid.base.version import __version__

if TYPE_CHECKING:
    from camelid.engine.open_lm import connect as LM
    from camelid.formats.load import load_model, load_tokenizer


__all__ = ["LM", "__version__", "load_model", "load_tokenizer"]

_HOMES = {
    "LM": ("camelid.engine.open_lm", "connect"),
    "load_model": ("camelid.formats.load", "load_model"),
    "load_tokenizer": ("camelid.formats.load", "load_tokenizer"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'camelid' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
