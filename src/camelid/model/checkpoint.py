"""A checkpoint is a folder in the Hugging Face layout: config.json, safetensors (sharded when large), and beside it
the tokenizer. What only Camelid knows (parents, recipe, data) stands in camelid.json."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from camelid.errors import CamelidError
from camelid.model.families import Family, family_for, family_of
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DEFAULT_SHARD_BYTES = 5 * 10**9


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json; raises `CamelidError` where there is none or it is no JSON object."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise CamelidError(
            f"{folder} holds no config.json, so it is no checkpoint folder in the Hugging Face layout"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CamelidError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise CamelidError(f"{path}: a JSON object is needed, got {type(config).__name__}")
    return config


def read_spec(folder: Path) -> ModelSpec:
    """The `ModelSpec` that the folder's config.json describes."""
    config = read_config(folder)
    return family_of(config).read(config)


def load_checkpoint(folder: Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model in `folder`, its weights in `dtype`, in evaluation mode.

    Raises `CamelidError` that lists tensors missing, foreign or of the wrong shape, or the file that is cut short.
    """
    config = read_config(folder)
    family = family_of(config)
    with torch.device("meta"):
        model = Transformer(family.read(config))
    expected = {family.name_on_disk(name): name for name in model.state_dict()}
    tensors = read_tensors(folder)
    if model.spec.tie_embeddings:
        _share_embedding(tensors, family)
    _check_tensors(folder, {on_disk: model.state_dict()[name] for on_disk, name in expected.items()}, tensors)
    state = {name: tensors[on_disk].to(dtype) for on_disk, name in expected.items()}
    model.load_state_dict(state, assign=True)
    return model.eval()


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder's safetensors files by name, memory-mapped."""
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                tensors.update((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CamelidError(
                f"{path}: cannot be read as safetensors ({error}); fetch or export it again"
            ) from error
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: the single one, or those that the index names."""
    folder = Path(folder)
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (index := folder / INDEX).is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise CamelidError(
                f"{index} names {', '.join(missing)}, which the folder does not hold; fetch the rest"
            )
        return [folder / name for name in names]
    pickles = [path.name for pattern in ("*.bin", "*.pth", "*.pt") for path in sorted(folder.glob(pattern))]
    hint = f"; {pickles[0]} is a pickle, which is never loaded: convert it to safetensors" if pickles else ""
    raise CamelidError(f"{folder} holds neither {WEIGHTS} nor {INDEX}{hint}")


def save_checkpoint(
    folder: Path,
    model: Transformer,
    *,
    dtype: torch.dtype = torch.float32,
    special_ids: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Writes config.json, generation_config.json, the weights in `dtype` and camelid.json into an existing folder.

    special_ids: `bos_token_id`, `eos_token_id` (an id or a list) and `pad_token_id`, for both configs. The caller
    makes the folder atomic (`camelid.atomic.atomic_folder`) and saves the tokenizer beside the weights.
    """
    family = family_for(model.spec)
    ids = {key: value for key, value in (special_ids or {}).items() if value is not None}
    config = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        **family.write(model.spec),
        "torch_dtype": str(dtype).removeprefix("torch."),
        **ids,
    }
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", ids)
    if provenance is not None:
        _write_json(folder / "camelid.json", provenance)
    state = (
        (family.name_on_disk(name), tensor.detach().to(dtype)) for name, tensor in model.state_dict().items()
    )
    save_tensors(folder, dict(state), max_shard_bytes)


def save_tensors(
    folder: Path, tensors: Mapping[str, Tensor], max_shard_bytes: int = DEFAULT_SHARD_BYTES
) -> None:
    """Writes the tensors as one safetensors file, or as shards with an index where they exceed `max_shard_bytes`."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > max_shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.contiguous()
        size += tensor.nbytes
    if len(shards) == 1:
        save_file(shards[0], folder / WEIGHTS, metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, name))
    total = sum(tensor.nbytes for tensor in tensors.values())
    _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _share_embedding(tensors: dict[str, Tensor], family: Family) -> None:
    # Folders with tied embeddings keep either name, some keep both.
    embedding, head = family.name_on_disk("embed_tokens.weight"), family.name_on_disk("lm_head.weight")
    kept = tensors.pop(head, None)
    if kept is not None:
        tensors.setdefault(embedding, kept)


def _check_tensors(folder: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing = sorted(expected.keys() - found.keys())
    # Buffers that old versions of transformers wrote and every reader ignores.
    foreign = sorted(
        name for name in found.keys() - expected.keys() if not name.endswith("rotary_emb.inv_freq")
    )
    misshapen = [
        f"{name} is {list(found[name].shape)}, config.json asks for {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    parts = [*_listed("missing tensors", missing), *_listed("foreign tensors", foreign)]
    parts += _listed("wrong shapes", misshapen)
    if parts:
        raise CamelidError(f"{folder}: the weights do not fit config.json: {'; '.join(parts)}")


def _listed(what: str, names: list[str], shown: int = 5) -> Iterable[str]:
    if names:
        more = f" and {len(names) - shown} more" if len(names) > shown else ""
        yield f"{what}: {', '.join(names[:shown])}{more}"


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
