"""Writes GGUF files with the keys and names of llama.cpp's converter, through the `gguf` package."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from camelid.base.errors import CamelidError, naming, shortened
from camelid.formats.gguf.architecture import EMBEDDING, OUTPUT, Architecture
from camelid.formats.gguf.families import architecture_for, read_parameters
from camelid.formats.gguf.file import GGUFFile
from camelid.formats.gguf.gpt2 import POSITIONS
from camelid.formats.gguf.quantizing import blocks_of, gguf_package
from camelid.formats.gguf.types import BLOCKS
from camelid.formats.hugging_face.checkpoint import stored_tensors
from camelid.model.spec import ModelSpec

Precision = Literal["float32", "float16", "bfloat16", "q8_0", "q4_0", "q4_k"]
KINDS: dict[str, tuple[str, str]] = {
    "float32": ("F32", "ALL_F32"),
    "float16": ("F16", "MOSTLY_F16"),
    "bfloat16": ("BF16", "MOSTLY_BF16"),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
    "q4_0": ("Q4_0", "MOSTLY_Q4_0"),
    "q4_k": ("Q4_K", "MOSTLY_Q4_K_S"),
}
"""ggml's names of the matrix format and of the file type."""
KEPT_WHOLE = (POSITIONS,)
"""Matrices that llama.cpp requires in float32, as it does all vectors."""
FARTHEST = 0.4
"""Bound on the relative rounding error of a tensor (by norm), even in 4 bits with 32 values per scale."""
INSTEAD = {"Q4_K": "Q5_0"}
"""llama.cpp's fallback for rows that are not a multiple of the block; float16 if that does not fit either."""


def write_gguf(
    path: Path,
    spec: ModelSpec,
    parameters: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, Any],
    dtype: Precision,
) -> str:
    """Writes the model, one tensor in memory at a time; returns the name of its architecture.

    dtype: of the matrices. In 4-bit files the embedding and output projection have 8 bits, and matrices whose
    rows are not a multiple of the block get llama.cpp's fallback. metadata: further keys, such as the
    tokenizer's. Raises `CamelidError` if no architecture can hold the model or a value is too large for
    float16.
    """
    gguf = gguf_package()
    architecture = architecture_for(spec)
    writer = gguf.GGUFWriter(path, architecture.name)
    for key, value in _keys(architecture, spec, metadata, dtype).items():
        _add(writer, key, value)
    shapes = ((name, torch.empty_like(tensor, device="meta")) for name, tensor in parameters.items())
    for name, tensor in _tensors(architecture, spec, shapes):
        kind = _kind(name, tensor, dtype)
        size = tensor.numel() // BLOCKS[kind].values * BLOCKS[kind].size
        # The writer takes the shape as given, except for bytes.
        words = np.dtype(np.int16)
        writer.add_tensor_info(name, tensor.shape, words, size, gguf.GGMLQuantizationType[kind])
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in _tensors(architecture, spec, iter(parameters.items())):
            with naming(f"tensor {name!r}"):
                writer.write_tensor_data(blocks_of(tensor, _kind(name, tensor, dtype)).numpy())
        writer.close()
    except OSError as error:
        raise CamelidError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            writer.close()
    return architecture.name


def differences(
    path: Path,
    spec: ModelSpec,
    parameters: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, Any],
    dtype: Precision,
) -> list[str]:
    """The differences between a file and what `write_gguf` should have written, in words.

    Tensors must match byte for byte; independently of that, the parameters that an import reads from them
    must be close to the given ones. Raises `CamelidError` if the file's tensors are not the model's.
    """
    file, architecture = GGUFFile(path), architecture_for(spec)
    keys = {"general.architecture": architecture.name, **_keys(architecture, spec, metadata, dtype)}
    wrong = [
        _unlike(key, found, wanted)
        for key in {**keys, **file.metadata}
        if (found := file.metadata.get(key)) != (wanted := _as_stored(keys.get(key)))
    ]
    for name, tensor in _tensors(architecture, spec, iter(parameters.items())):
        kind, stored = _kind(name, tensor, dtype), file.tensors.get(name)
        same = stored is not None and (stored.format.name, stored.shape) == (kind, tuple(tensor.shape))
        if not same or not np.array_equal(file.raw(name), blocks_of(tensor, kind).numpy().ravel()):
            wrong.append(f"tensor {name} has different values")
    given = dict(_scaled(spec, iter(parameters.items())))
    for name, found in read_parameters(file, spec):
        if (found - given[name]).norm() > FARTHEST * given[name].float().norm():
            wrong.append(f"{name} is far from the original, or too small for this format")
    return wrong


def _keys(
    architecture: Architecture, spec: ModelSpec, metadata: Mapping[str, Any], dtype: Precision
) -> dict[str, Any]:
    gguf = gguf_package()
    return {
        "general.file_type": int(gguf.LlamaFileType[KINDS[dtype][1]]),
        "general.quantization_version": 2,
        **{f"{architecture.name}.{key}": value for key, value in architecture.write(spec).items()},
        **metadata,
    }


def _unlike(key: str, found: Any, wanted: Any) -> str:
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        place = next(index for index, each in enumerate(found) if each != wanted[index])
        key, found, wanted = f"{key}[{place}]", found[place], wanted[place]
    return f"{key} is {shortened(found)}, expected {shortened(wanted)}"


def _as_stored(value: Any) -> Any:
    """A key's value as stored in a file: floats in float32, bytes as numbers."""
    if isinstance(value, list | bytes):
        return [_as_stored(each) for each in value]
    return float(np.float32(value)) if isinstance(value, float) else value


def _tensors(
    architecture: Architecture, spec: ModelSpec, parameters: Iterator[tuple[str, Tensor]]
) -> Iterator[tuple[str, Tensor]]:
    # The factors come first, as in llama.cpp's files.
    yield from architecture.extra(spec).items()
    yield from stored_tensors(architecture.naming.place, spec, _scaled(spec, parameters))


def _scaled(spec: ModelSpec, parameters: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in parameters:
        scales = name == "norm.weight" and spec.output_scale != 1
        yield name, tensor.float() * spec.output_scale if scales else tensor


def _kind(name: str, tensor: Tensor, dtype: Precision) -> str:
    """The format of one tensor."""
    if tensor.ndim == 1 or name in KEPT_WHOLE:
        return "F32"
    kind = KINDS[dtype][0]
    if kind in ("Q4_0", "Q4_K") and name in (EMBEDDING, OUTPUT):
        kind = "Q8_0"
    for each in (kind, INSTEAD.get(kind, "F16")):
        if tensor.shape[-1] % BLOCKS[each].values == 0:
            return each
    return "F16"


def _add(writer: Any, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            if not 0 <= value < 1 << 32:
                raise CamelidError(f"{key} is {value}, which does not fit into llama.cpp's 32 bits")
            writer.add_uint32(key, value)
        case float():
            if not abs(value) <= float(np.finfo(np.float32).max):
                raise CamelidError(f"{key} is {value}, which does not fit into llama.cpp's float32")
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)
