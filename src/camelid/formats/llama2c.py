"""llama2.c's checkpoints (version 0, `legacy_export` of its export.py): seven sizes, then float32 tensors.

Files are not trusted: the sizes must describe exactly the file's number of bytes.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camelid.base.errors import CamelidError, naming
from camelid.formats.meta_llama import NAMING
from camelid.model.spec import FeedForward, ModelSpec, Norm, Rotary

HEADER = struct.Struct("<7i")
SIZES = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")
MAGIC = 0x616B3432
"""Magic number of later versions: "ak42"."""
SKIPPED = "frequencies"
"""The stored cosines and sines, which follow from the sizes."""


class Llama2cFile:
    """A llama2.c checkpoint: its `spec` and the offset of each run of tensors.

    Raises `CamelidError` if the header is invalid or does not match the file size.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            header = file.read(HEADER.size)
        if len(header) < HEADER.size:
            raise CamelidError(f"{path} has {size} bytes, fewer than llama2.c's header of {HEADER.size}")
        if int.from_bytes(header[:4], "little") == MAGIC:
            raise CamelidError(
                f"{path} is in a later version of llama2.c's format; supported: version 0 "
                "(export.py --version 0)"
            )
        with naming(path):
            self.spec = _spec(dict(zip(SIZES, HEADER.unpack(header), strict=True)))
        self.runs = _runs(self.spec)
        wanted = HEADER.size + 4 * sum(math.prod(shape) for _, shape in self.runs)
        if wanted != size:
            raise CamelidError(
                f"{path} has {size} bytes but its header describes {wanted}; it is truncated or not "
                "a llama2.c checkpoint"
            )

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Our parameters by name, one at a time."""
        position = HEADER.size
        for name, shape in self.runs:
            if name != SKIPPED:
                values = np.memmap(self.path, "<f4", "r", position, shape)
                if "#" not in name:
                    yield name, _tensor(self.spec, name, values)
                else:
                    for layer, part in enumerate(values):
                        yield name.replace("#", str(layer)), _tensor(self.spec, name, part)
            position += 4 * math.prod(shape)


def _spec(sizes: dict[str, int]) -> ModelSpec:
    # A negative vocabulary size means that there is an output matrix.
    tied = sizes["vocab_size"] > 0
    sizes["vocab_size"] = abs(sizes["vocab_size"])
    if bad := [name for name, size in sizes.items() if size < 1]:
        raise CamelidError(f"{bad[0]} is {sizes[bad[0]]}; not a llama2.c checkpoint, or damaged")
    if sizes["dim"] % sizes["n_heads"]:
        raise CamelidError(f"dim {sizes['dim']} is not a multiple of n_heads {sizes['n_heads']}")
    return ModelSpec(
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["dim"],
        num_layers=sizes["n_layers"],
        num_heads=sizes["n_heads"],
        num_kv_heads=sizes["n_kv_heads"],
        head_dim=sizes["dim"] // sizes["n_heads"],
        context_length=sizes["seq_len"],
        feed_forward=FeedForward(sizes["hidden_dim"]),
        positions=Rotary(),
        norm=Norm(),
        tie_embeddings=tied,
    )


def _runs(spec: ModelSpec) -> list[tuple[str, tuple[int, ...]]]:
    """Our names and the shapes in file order; each layer parameter is stored for all layers together."""
    layers, width, hidden = spec.num_layers, spec.hidden_size, spec.feed_forward.width
    keys = spec.num_kv_heads * spec.head_dim
    inside = [
        ("input_layernorm", (width,)),
        ("self_attn.q_proj", (width, width)),
        ("self_attn.k_proj", (keys, width)),
        ("self_attn.v_proj", (keys, width)),
        ("self_attn.o_proj", (width, width)),
        ("post_attention_layernorm", (width,)),
        ("mlp.gate_proj", (hidden, width)),
        ("mlp.down_proj", (width, hidden)),
        ("mlp.up_proj", (hidden, width)),
    ]
    return [
        ("embed_tokens.weight", (spec.vocab_size, width)),
        *((f"layers.#.{module}.weight", (layers, *shape)) for module, shape in inside),
        ("norm.weight", (width,)),
        (SKIPPED, (2, spec.context_length, spec.head_dim // 2)),
        *([] if spec.tie_embeddings else [("lm_head.weight", (spec.vocab_size, width))]),
    ]


def _tensor(spec: ModelSpec, name: str, values: NDArray[np.float32]) -> Tensor:
    # llama2.c has Meta's order of rows, without names.
    return NAMING.place(spec, name).take(torch.from_numpy(np.array(values, np.float32)))
