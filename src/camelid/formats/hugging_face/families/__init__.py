"""Hugging Face `config.json` to `ModelSpec` and back: one table entry per architecture."""

from dataclasses import fields
from functools import lru_cache

from camelid.base.errors import CamelidError, shortened
from camelid.formats.hugging_face.families.config import Config
from camelid.formats.hugging_face.families.family import Family
from camelid.formats.hugging_face.families.gpt2 import GPT2
from camelid.formats.hugging_face.families.gpt_j import GPT_J
from camelid.formats.hugging_face.families.gpt_neox import GPT_NEOX
from camelid.formats.hugging_face.families.llama import LLAMA, MISTRAL, QWEN2, QWEN3
from camelid.formats.hugging_face.families.opt import OPT
from camelid.formats.hugging_face.families.own import OWN
from camelid.formats.hugging_face.families.palm import COHERE
from camelid.formats.hugging_face.families.t5 import T5
from camelid.formats.names import Place
from camelid.model.spec import ModelSpec

FAMILIES = (LLAMA, MISTRAL, QWEN2, QWEN3, GPT2, COHERE, T5, GPT_NEOX, GPT_J, OPT, OWN)
"""A spec that several can express is written as the first of them."""

__all__ = ["FAMILIES", "Family", "Place", "family_for", "family_of", "why_own"]


def family_of(config: Config) -> Family:
    """The family named in a `config.json`; raises `CamelidError` with the supported ones."""
    named = config.get("architectures") or []
    if not isinstance(named, list):
        raise CamelidError(f"config.json: architectures is {named!r}; it must be a list of names")
    kind = config.get("model_type")
    for family in FAMILIES:
        if family.architecture in named or (not named and kind == family.model_type):
            if kind not in (None, family.model_type):
                # transformers goes by model_type, other readers by architectures
                raise CamelidError(
                    f"config.json: model_type is {shortened(kind)}, "
                    f"but {family.architecture} in architectures is "
                    f"of type {family.model_type!r}; they must agree"
                )
            return family
    found = ", ".join(map(str, named)) or config.get("model_type") or "none"
    supported = ", ".join(family.architecture for family in FAMILIES)
    raise CamelidError(f"config.json: the architecture is {found}; supported: {supported}")


@lru_cache  # a folder is read tensor by tensor, and each asks
def family_for(spec: ModelSpec) -> Family:
    """The family that writes this spec: the first of transformers that expresses it, else our own."""
    return next(family for family in FAMILIES if not _changed(family, spec))


def why_own(spec: ModelSpec) -> str | None:
    """Why no architecture of transformers expresses this spec, in words; None if one does."""
    changes = [(_changed(family, spec), family) for family in FAMILIES if family is not OWN]
    changed, nearest = min(changes, key=lambda pair: len(pair[0]))
    if not changed:
        return None
    return (
        f"no architecture of transformers expresses this model; the nearest, {nearest.architecture}, "
        f"would change {', '.join(changed)}"
    )


def _changed(family: Family, spec: ModelSpec) -> list[str]:
    """The fields of the spec that are lost or changed when this family writes and reads it."""
    try:
        again = family.read(family.write(spec))
    except CamelidError:
        return [field.name for field in fields(ModelSpec)]
    return [field.name for field in fields(spec) if getattr(again, field.name) != getattr(spec, field.name)]
