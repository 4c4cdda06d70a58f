"""Writes safetensors files, sharded with an index when large, and releases mapped tensors."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from camelid.base.errors import CamelidError
from camelid.base.json import write_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DEFAULT_SHARD_BYTES = 5 * 10**9


def dtype_name(dtype: torch.dtype) -> str:
    """The dtype's name as configs and people write it: `bfloat16`."""
    return str(dtype).removeprefix("torch.")


def save_tensors(
    folder: Path,
    tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Writes the tensors as one safetensors file, or as shards with an index if above `max_shard_bytes`."""
    shards: list[list[str]] = []
    pending: dict[str, Tensor] = {}
    total = waiting = 0
    for name, tensor in tensors.items() if isinstance(tensors, Mapping) else tensors:
        if pending and waiting + tensor.nbytes > max_shard_bytes:
            shards.append(_save_shard(folder, len(shards), pending))
            pending, waiting = {}, 0
        pending[name] = tensor.contiguous()
        waiting += tensor.nbytes
        total += tensor.nbytes
    shards.append(_save_shard(folder, len(shards), pending))
    if len(shards) == 1:
        _draft(folder, 0).rename(folder / WEIGHTS)
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        _draft(folder, number).rename(folder / file)
        weight_map.update(dict.fromkeys(names, file))
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _draft(folder: Path, number: int) -> Path:
    # Final names contain the number of shards, which is known after the last one.
    return folder / f"shard-{number}.partial"


def _save_shard(folder: Path, number: int, tensors: dict[str, Tensor]) -> list[str]:
    path = _draft(folder, number)
    try:
        path.touch()
        mode = path.stat().st_mode
        save_file(tensors, path, metadata={"format": "pt"})
        # safetensors creates files readable only by the owner; use the folder's permissions instead.
        path.chmod(mode)
    except (SafetensorError, OSError) as error:
        raise CamelidError(f"{path}: the weights cannot be written: {error}") from error
    return list(tensors)
