"""Camelid: the survey of language models, made runnable.

    model = camelid.load_model("runs/first/model")        # logits = model(token_ids)
    tokenizer = camelid.load_tokenizer("runs/first/model")
    lm = camelid.LM("runs/first/model")                   # or the URL of an OpenAI-compatible server

Importing this package imports no torch: each name is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from camelid.lm import connect as LM
    from camelid.model.checkpoint import load_model
    from camelid.text.tokenizer import load_tokenizer

__version__ = "0.1.0"
__all__ = ["LM", "load_model", "load_tokenizer"]

_HOMES = {
    "LM": ("camelid.lm", "connect"),
    "load_model": ("camelid.model.checkpoint", "load_model"),
    "load_tokenizer": ("camelid.text.tokenizer", "load_tokenizer"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'camelid' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
