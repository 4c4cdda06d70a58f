"""The files of a checkpoint folder: its settings and its tensors, under every name that tools have given
them."""

import hashlib
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from camelid.base.digest import digest_file
from camelid.base.errors import CamelidError, reason_of, shortened
from camelid.base.json import read_table
from camelid.formats.hugging_face.tensor_files import INDEX, WEIGHTS

QUANTIZERS = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
"""Files in which AutoGPTQ and AutoAWQ kept what config.json now holds as `quantization_config`."""
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_OTHERS = ("adapter_model", "consolidated")
"""Weights beside a model's own: an adapter, and the same weights in Mistral's layout."""


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json, with the settings of a quantised model that other files hold.

    Raises `CamelidError` if it is missing or not a JSON object.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CamelidError(f"there is no folder {folder}")
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise CamelidError(
            f"{folder} holds an adapter without its base model: give the base, with --adapter {folder}, or "
            "merge them first (camelid merge)"
        )
    if not (folder / "config.json").is_file():
        raise CamelidError(f"{folder} holds no config.json, so it is not a checkpoint folder")
    config = read_table(folder / "config.json")
    if config.get("quantization_config") is None:
        for name, method in QUANTIZERS.items():
            if (folder / name).is_file():
                config["quantization_config"] = _settings(read_table(folder / name), method)
                break
    return config


def _settings(table: dict[str, Any], method: str) -> dict[str, Any]:
    """A quantiser's own file as a `quantization_config`."""
    names = {"w_bit": "bits", "q_group_size": "group_size"}
    return {"quant_method": method} | {names.get(key, key): value for key, value in table.items()}


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder's safetensors files by name, memory-mapped."""
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                tensors.update((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
        # Unknown dtypes and sizes beyond 64 bits raise errors of all kinds when the tensor is created.
        except (
            SafetensorError,
            OSError,
            ArithmeticError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise CamelidError(
                f"{path}: cannot be read as safetensors ({reason_of(error)}); download or export it again"
            ) from error
    return tensors


def weight_bytes(folder: Path) -> int:
    """The bytes of a folder's safetensors files."""
    return sum(path.stat().st_size for path in weight_files(folder))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: the single one, those in the index, or all parts of one name.

    Quantised models have names of their own, such as gptq_model-4bit-128g.safetensors.
    """
    folder = Path(folder)
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return _indexed(folder / INDEX)
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if len(indices) == 1:
        return _indexed(indices[0])
    found = [path for path in sorted(folder.glob("*.safetensors")) if not path.name.startswith(_OTHERS)]
    if len(found) == 1 and not _PART.fullmatch(found[0].name):
        return found
    if found:
        return _all_parts(folder, found)
    pickles = [path.name for pattern in ("*.bin", "*.pth", "*.pt") for path in sorted(folder.glob(pattern))]
    hint = f"; {pickles[0]} is a pickle, which is never loaded: convert it to safetensors" if pickles else ""
    raise CamelidError(f"{folder} holds neither {WEIGHTS} nor {INDEX}{hint}")


def weights_digest(folder: Path) -> str:
    """Sha256 of a folder's config.json and weights, under their names."""
    whole = hashlib.sha256()
    for path in (Path(folder) / "config.json", *weight_files(folder)):
        whole.update(f"{path.name}\0{digest_file(path)}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def _indexed(index: Path) -> list[Path]:
    """The files that an index names."""
    folder = index.parent
    weight_map = read_table(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CamelidError(f"{index} has no weight_map from tensors to files; download it again")
    named = list(weight_map.values())
    if outside := [name for name in named if not isinstance(name, str) or Path(name).name != name]:
        raise CamelidError(f"{index} names {shortened(outside[0])}, which is not a file of this folder")
    names, held = sorted(set(named)), {path.name for path in folder.iterdir()}
    if missing := [name for name in names if name not in held]:
        shown = f"{', '.join(missing[:5])}{' and more' if missing[5:] else ''}"
        raise CamelidError(f"{index} names {shown}, which the folder does not hold; download them")
    return [folder / name for name in names]


def _all_parts(folder: Path, found: list[Path]) -> list[Path]:
    """The parts, if they are all of one name and complete."""
    parts = [_PART.fullmatch(path.name) for path in found]
    kinds = {
        (part[1], int(part[3])) if part else (path.name, 1) for part, path in zip(parts, found, strict=True)
    }
    if len(kinds) > 1:
        names = ", ".join(path.name for path in found[:5])
        raise CamelidError(f"{folder} holds several models: {names}; keep one, or name it {WEIGHTS}")
    [(name, count)] = kinds
    held = {int(part[2]) for part in parts if part}
    if missing := sorted(set(range(1, min(count, 100_000) + 1)) - held):
        raise CamelidError(f"{folder} lacks {name}-{missing[0]:05d}-of-{count:05d}.safetensors; download it")
    return found
