"""Conditional training: a text before an answer that says whether it is a good one.

Liu et al. 2023 (Chain of Hindsight, arXiv:2302.02676) write such a text before each answer and condition on
the good one when the model is used. The text is not trained, and stands where the model goes on: behind the
generation prompt of the chat template.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.json import read_table
from camelid.text.tokenizer import Tokenizer

STYLES: dict[str, dict[str, str]] = {
    "koala": {"good": "GPT:", "bad": "An Unhelpful Answer:"},
    "hindsight": {
        "good": "The following is a more helpful response.\n",
        "bad": "The following is a less helpful response.\n",
    },
}
"""Marker texts: Koala's (young-geng/koala_data_pipeline, create_hf_data_v2.py), and two of its phrases."""
METADATA = "camelid.json"


def stored_markers(folder: Path) -> dict[str, str]:
    """The marker texts that a checkpoint folder was trained with; empty if there are none.

    Raises `CamelidError` if camelid.json is damaged.
    """
    found: Any = read_table(folder / METADATA, optional=True).get("markers") or {}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise CamelidError(f"{folder / METADATA}: markers is {found!r:.60}; it must map names to texts")
    return found


def markers_entry(folder: Path) -> dict[str, dict[str, str]]:
    """The markers as an entry of camelid.json, for a model that is made from this one; empty without."""
    found = stored_markers(folder)
    return {"markers": found} if found else {}


def marker_text(folder: Path, name: str) -> str:
    """The text of a marker, `good` or `bad`; raises `WrongCall` if the model was tuned without markers."""
    found = stored_markers(folder)
    if not found:
        raise WrongCall(
            f"{folder} was tuned without markers, so --marker {name} would mean nothing to it; remove "
            "--marker, or tune a model with --markers.style"
        )
    if name not in found:
        raise WrongCall(f"{folder} has no marker {name!r}; it has {', '.join(found)}")
    return found[name]


def steered(tokenizer: Tokenizer, folder: Path, name: str | None) -> Tokenizer:
    """The folder's tokenizer, whose chat template writes the named marker before each answer.

    name: `good` or `bad`; None leaves it unchanged. Raises `WrongCall` as `marker_text` does.
    """
    if name is None:
        return tokenizer
    text = marker_text(folder, name)
    if tokenizer.chat_template is None:
        raise CamelidError(f"{folder} has markers and no chat template, so they have no place")
    tokenizer.chat_template = replace(tokenizer.chat_template, marker=text)
    return tokenizer
