"""A model as one GGUF file, with the keys and names of llama.cpp's converter; the `gguf` package writes the bytes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from camelid.errors import naming
from camelid.model.checkpoint import stored_tensors
from camelid.model.gguf_architecture import EMBEDDING, OUTPUT, Architecture
from camelid.model.gguf_families import architecture_for
from camelid.model.gguf_gpt2 import POSITIONS
from camelid.model.gguf_quantizing import blocks_of, gguf_package
from camelid.model.gguf_types import FORMATS
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
"""ggml's name of the matrices' format, and of a file that has it."""
KEPT_WHOLE = (POSITIONS,)
"""Matrices that llama.cpp wants in float32; so are all vectors."""
INSTEAD = {"Q4_K": "Q5_0"}
"""What llama.cpp takes for rows that the format's blocks do not divide; where even that does not fit, float16 is."""
BLOCKS = {each.name: each for each in FORMATS.values()}


def write_gguf(
    path: Path,
    spec: ModelSpec,
    parameters: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, Any],
    dtype: Precision,
) -> str:
    """Writes the model and gives the name of its architecture; one tensor at a time is in memory.

    dtype: of the matrices; in a file of 4 bits embedding and output projection have 8, and matrices whose rows are no
    whole number of blocks what llama.cpp would take instead. metadata: further keys, the tokenizer's among them.
    Raises `CamelidError` where no architecture holds the model or a value is too large for float16.
    """
    gguf = gguf_package()
    architecture = architecture_for(spec)
    writer = gguf.GGUFWriter(path, architecture.name)
    keys = {f"{architecture.name}.{key}": value for key, value in architecture.write(spec).items()}
    general = {
        "general.file_type": int(gguf.LlamaFileType[KINDS[dtype][1]]),
        "general.quantization_version": 2,
    }
    for key, value in {**general, **keys, **metadata}.items():
        _add(writer, key, value)
    shapes = ((name, torch.empty_like(tensor, device="meta")) for name, tensor in parameters.items())
    for name, tensor in _tensors(architecture, spec, shapes):
        kind = _kind(name, tensor, dtype)
        size = tensor.numel() // BLOCKS[kind].values * BLOCKS[kind].size
        # The writer takes the shape as it is from any type but bytes.
        words = np.dtype(np.int16)
        writer.add_tensor_info(name, tensor.shape, words, size, gguf.GGMLQuantizationType[kind])
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in _tensors(architecture, spec, iter(parameters.items())):
            with naming(f"tensor {name!r}"):
                writer.write_tensor_data(blocks_of(tensor, _kind(name, tensor, dtype)).numpy())
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
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)
