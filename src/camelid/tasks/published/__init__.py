"""The evaluations of GPT-2 and GPT-3 by name: how each turns its published rows into prompts and grades the
replies."""

from collections.abc import Callable, Mapping

from camelid.base.errors import WrongCall
from camelid.tasks.published import choice, cloze, following, generation, mmlu
from camelid.tasks.published.format import Format

__all__ = ["FORMATS", "WITH_SETTING", "Format", "format_named"]

FORMATS: Mapping[str, Format] = {
    format.name: format for part in (cloze, choice, generation, mmlu, following) for format in part.FORMATS
}
WITH_SETTING: Mapping[str, Callable[..., Format]] = {
    "tldr": generation.tldr,
    "translation": generation.translation,
}
"""Formats whose name can be followed by a setting: `tldr/600`, `translation/de-en`."""


def format_named(name: str) -> Format | None:
    """The format with this name, or None if there is none; raises `WrongCall` for an invalid setting."""
    if name in FORMATS:
        return FORMATS[name]
    first, stroke, setting = name.partition("/")
    if first in WITH_SETTING:
        return WITH_SETTING[first](setting) if stroke else WITH_SETTING[first]()
    if first in FORMATS:
        raise WrongCall(f"{name}: {first} takes no setting; write --task {first}")
    return None
