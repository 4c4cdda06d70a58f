"""A model as one GGUF file, with the keys and names of llama.cpp's converter; the `gguf` package writes the bytes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camelid.errors import CamelidError
from camelid.model.checkpoint import stored_tensors
from camelid.model.gguf_architecture import Architecture
from camelid.model.gguf_families import architecture_for
from camelid.model.gguf_gpt2 import POSITIONS
from camelid.model.spec import ModelSpec

Precision = Literal["float32", "float16", "bfloat16"]
KINDS: dict[str, tuple[str, str]] = {
    "float32": ("F32", "ALL_F32"),
    "float16": ("F16", "MOSTLY_F16"),
    "bfloat16": ("BF16", "MOSTLY_BF16"),
}
"""ggml's name of each dtype, and of a file whose matrices have it."""
KEPT_WHOLE = (POSITIONS,)
"""Matrices that llama.cpp wants in float32; so are all vectors."""


def write_gguf(
    path: Path,
    spec: ModelSpec,
    parameters: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, Any],
    dtype: Precision,
) -> str:
    """Writes the model and gives the name of its architecture; one tensor at a time is in memory.

    metadata: further keys, the tokenizer's among them. Raises `CamelidError` where no architecture holds the model or
    a value is too large for float16.
    """
    gguf = _package()
    architecture = architecture_for(spec)
    writer = gguf.GGUFWriter(path, architecture.name)
    kinds = gguf.GGMLQuantizationType
    keys = {f"{architecture.name}.{key}": value for key, value in architecture.write(spec).items()}
    general = {
        "general.file_type": int(gguf.LlamaFileType[KINDS[dtype][1]]),
        "general.quantization_version": 2,
    }
    for key, value in {**general, **keys, **metadata}.items():
        _add(writer, key, value)
    shapes = ((name, torch.empty_like(tensor, device="meta")) for name, tensor in parameters.items())
    for name, tensor in _tensors(architecture, spec, shapes):
        kind, width = _kind(name, tensor, dtype), 4
        if kind != "float32":
            width = 2
        words = np.dtype(np.float32 if width == 4 else np.int16)
        writer.add_tensor_info(name, tensor.shape, words, width * tensor.numel(), kinds[KINDS[kind][0]])
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in _tensors(architecture, spec, iter(parameters.items())):
            writer.write_tensor_data(_words(name, tensor, getattr(torch, _kind(name, tensor, dtype))))
    finally:
        writer.close()
    return architecture.name


def _tensors(
    architecture: Architecture, spec: ModelSpec, parameters: Iterator[tuple[str, Tensor]]
) -> Iterator[tuple[str, Tensor]]:
    # The factors come first, as they do in llama.cpp's own files.
    yield from architecture.extra(spec).items()
    scaled = (
        (name, tensor.float() * spec.output_scale if name == "norm.weight" else tensor)
        for name, tensor in parameters
    )
    yield from stored_tensors(architecture.place, spec, parameters if spec.output_scale == 1 else scaled)


def _kind(name: str, tensor: Tensor, dtype: Precision) -> Precision:
    return "float32" if tensor.ndim == 1 or name in KEPT_WHOLE else dtype


def _words(name: str, tensor: Tensor, dtype: torch.dtype) -> NDArray[Any]:
    """The numbers' bits, which are all that the writer needs to know."""
    converted = tensor.to(dtype).contiguous()
    if dtype == torch.float16 and not converted.isfinite().all():
        raise CamelidError(f"tensor {name!r} has values beyond float16's 65504; take bfloat16 or float32")
    return (converted if dtype == torch.float32 else converted.view(torch.int16)).numpy()


def _add(writer: Any, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def _package() -> ModuleType:
    try:
        import gguf
    except ImportError as error:
        raise CamelidError('writing GGUF needs the gguf package: pip install "camelid[gguf]"') from error
    return gguf
