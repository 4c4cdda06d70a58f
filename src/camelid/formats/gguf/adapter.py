"""Adapters as GGUF files: the keys and names of llama.cpp's convert_lora_to_gguf.py.

<tensor>.lora_a [rank, inner], <tensor>.lora_b [outer, rank]; y = W x + (adapter.lora.alpha / rank) B A x
"""

from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np

from camelid.base.errors import CamelidError
from camelid.formats.gguf.families import architecture_for
from camelid.formats.gguf.quantizing import gguf_package
from camelid.formats.updates import stored_updates
from camelid.model.transformer import Transformer

AdapterPrecision = Literal["float32", "float16"]


def write_adapter(path: Path, model: Transformer, name: str, dtype: AdapterPrecision) -> int:
    """Writes the updates of a model; returns the number of tensors that they change.

    A file has one alpha for all. Where s rank differs from it (rsLoRA, patterns), B holds the rest. Raises
    `CamelidError` if no architecture of llama.cpp can hold the base.
    """
    gguf, architecture = gguf_package(), architecture_for(model.spec)
    updates = stored_updates(model, architecture.naming.place)
    first = next(iter(updates.values()))
    alpha = first.scale * len(first.a)
    writer = gguf.GGUFWriter(path, architecture.name)
    writer.add_string("general.type", "adapter")
    writer.add_string("general.name", name)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    kind = np.float32 if dtype == "float32" else np.float16
    for tensor, update in updates.items():
        raised = update.b * (update.scale * len(update.a) / alpha)
        for part, values in (("lora_a", update.a), ("lora_b", raised)):
            stored = values.contiguous().numpy().astype(kind)
            if not np.isfinite(stored).all():
                raise CamelidError(f"{tensor}.{part} has values beyond {dtype}; use --dtype float32")
            writer.add_tensor(f"{tensor}.weight.{part}", stored)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    except OSError as error:
        raise CamelidError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            writer.close()
    return len(updates)
