"""GGUF files to `ModelSpec` and parameters, and back: one table entry per architecture.

Errors name the key or tensor; the caller adds the file.
"""

import math
from collections.abc import Iterator
from dataclasses import fields, replace

import torch
from torch import Tensor

from camelid.base.errors import CamelidError, shortened
from camelid.formats.gguf.architecture import OUTPUT, Architecture, Keys
from camelid.formats.gguf.file import GGUFFile
from camelid.formats.gguf.gpt2 import GPT2
from camelid.formats.gguf.gpt_neox import GPT_NEOX
from camelid.formats.gguf.llama import LLAMA
from camelid.formats.gguf.t5 import T5
from camelid.formats.hugging_face.checkpoint import blank_model
from camelid.model.spec import ModelSpec

ARCHITECTURES = {architecture.name: architecture for architecture in (LLAMA, GPT2, GPT_NEOX, T5)}
"""Supported architectures, by `general.architecture`."""


def read_spec(file: GGUFFile) -> ModelSpec:
    """The spec of the file's model; raises `CamelidError` that names a missing or unsupported key."""
    read = _architecture(file).read
    assert read is not None  # `_architecture` gives no others
    if not file.tensors:
        raise CamelidError("it holds a vocabulary but no tensors, so there is no model to import")
    return read(Keys(file))


def read_parameters(file: GGUFFile, spec: ModelSpec) -> Iterator[tuple[str, Tensor]]:
    """Our parameters by name in float32, one at a time; raises if the file's tensors do not match exactly."""
    architecture = _architecture(file)
    model = blank_model(spec, (math.prod(tensor.shape) for tensor in file.tensors.values()))
    parameters = model.state_dict()
    places = {name: architecture.naming.place(spec, name) for name in parameters}
    shapes = {place.name: tuple(place.stored_shape(parameters[name].shape)) for name, place in places.items()}
    _check_tensors(file, architecture, shapes)
    for name, place in places.items():
        yield name, place.take(torch.from_numpy(file.tensor(place.name)))


def architecture_for(spec: ModelSpec) -> Architecture:
    """The architecture for this model; raises `CamelidError` with what the nearest one would change."""
    lost = {name: _lost(architecture, plain(spec)) for name, architecture in ARCHITECTURES.items()}
    nearest = min(lost, key=lambda name: len(lost[name]))
    if lost[nearest]:
        raise CamelidError(
            f"GGUF cannot hold this model: the nearest architecture, {nearest}, would change "
            f"{', '.join(lost[nearest])}"
        )
    return ARCHITECTURES[nearest]


def plain(spec: ModelSpec) -> ModelSpec:
    """The spec as a file keeps it: without dropout, the output scale folded into the last norm's gain."""
    return replace(spec, dropout=0.0, output_scale=spec.output_scale if spec.norm.bias else 1.0)


def _lost(architecture: Architecture, spec: ModelSpec) -> list[str]:
    held = architecture.holds(spec)
    return [field.name for field in fields(spec) if getattr(held, field.name) != getattr(spec, field.name)]


def _architecture(file: GGUFFile) -> Architecture:
    name = file.metadata.get("general.architecture")
    readable = [name for name, architecture in ARCHITECTURES.items() if architecture.read is not None]
    if name not in readable:
        raise CamelidError(f"general.architecture is {shortened(name)}; supported: {', '.join(readable)}")
    return ARCHITECTURES[name]


def _check_tensors(file: GGUFFile, architecture: Architecture, expected: dict[str, tuple[int, ...]]) -> None:
    keys = Keys(file)
    for name, shape in expected.items():
        if (found := keys.stored(name).shape) != shape:
            raise CamelidError(f"tensor {shortened(name)} is {list(found)}; its keys require {list(shape)}")
    if foreign := sorted(file.tensors.keys() - {*expected, *architecture.ignored, OUTPUT}):
        raise CamelidError(
            f"{len(foreign)} tensors do not belong to any supported {architecture.name} model; the "
            f"first is {shortened(foreign[0])}"
        )
