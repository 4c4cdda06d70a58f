"""Adapters as PEFT's folders: adapter_config.json and adapter_model.safetensors.

    base_model.model.<module>.lora_A.weight [rank, inner],  .lora_B.weight [outer, rank]

camelid.json beside them names the base by a digest of its weights, which PEFT does not record.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from camelid.base.errors import CamelidError, naming, reason_of, shortened
from camelid.base.json import read_table, write_json
from camelid.formats.hugging_face.families import family_for
from camelid.formats.hugging_face.stored_files import weights_digest
from camelid.formats.names import Place
from camelid.formats.updates import stored_updates
from camelid.model.adapters import adaptable, adapted, freeze_base, put_adapters
from camelid.model.lora import LoRA, LoRALinear
from camelid.model.transformer import Transformer
from camelid.runs.provenance import write_provenance

CONFIG, WEIGHTS, OWN = "adapter_config.json", "adapter_model.safetensors", "camelid.json"
PREFIX = "base_model.model."
A, B = ".lora_A.weight", ".lora_B.weight"
REFUSED = {
    "use_dora": "DoRA",
    "lora_bias": "biases of the updates",
    "modules_to_save": "modules that are trained beside the updates",
    "trainable_token_indices": "trained tokens",
    "use_qalora": "QALoRA",
}
"""Settings of PEFT that change what is computed, and that must be off."""
CHANGES_BASE = ("pissa", "olora", "corda", "loftq")
"""Initialisations after which an adapter belongs to a changed base."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (Path(folder) / CONFIG).is_file()


def base_of(folder: Path) -> str:
    """The name of an adapter's base, as its settings give it."""
    name = read_table(Path(folder) / CONFIG).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise CamelidError(f"{folder} does not name its base; give it with --base")
    return name


def save_adapter(
    folder: Path, model: Transformer, base: Path, provenance: Mapping[str, Any] | None = None
) -> None:
    """Writes a model's updates into an existing folder, for the base model in the folder `base`."""
    family, updates = family_for(model.spec), stored_updates(model, family_for(model.spec).place)
    settings = next(iter(adapted(model).values())).settings
    power = 0.5 if settings.rank_stabilised else 1.0
    ranks = {name: len(update.a) for name, update in updates.items()}
    alphas = {name: update.scale * len(update.a) ** power for name, update in updates.items()}
    [(rank, _)], [(alpha, _)] = (Counter(each.values()).most_common(1) for each in (ranks, alphas))
    write_json(
        folder / CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "SEQ_2_SEQ_LM" if model.encoder is not None else "CAUSAL_LM",
            "base_model_name_or_path": str(base),
            "r": rank,
            "lora_alpha": alpha,
            "lora_dropout": settings.dropout,
            "use_rslora": settings.rank_stabilised,
            "rank_pattern": {name: each for name, each in ranks.items() if each != rank},
            "alpha_pattern": {name: each for name, each in alphas.items() if each != alpha},
            "target_modules": _targets(model, [*updates]),
            "fan_in_fan_out": family.model_type == "gpt2",  # transformers' Conv1D holds [inputs, outputs]
            "bias": "none",
            "inference_mode": True,
        },
    )
    tensors = {}
    for name, update in updates.items():
        tensors[f"{PREFIX}{name}{A}"] = update.a.contiguous()
        tensors[f"{PREFIX}{name}{B}"] = update.b.contiguous()
    (folder / WEIGHTS).touch()
    mode = (folder / WEIGHTS).stat().st_mode
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(mode)
    own = {**(provenance or {}), "base": {"name": str(base), "digest": weights_digest(base)}}
    write_provenance(folder, own)


def load_adapter(model: Transformer, folder: Path, base: Path) -> Transformer:
    """Puts the updates in `folder` onto a model that was loaded from the folder `base`, unmerged.

    Raises `CamelidError` on an adapter that was made for another base, on settings of PEFT that are not
    supported, and on tensors that do not fit the model.
    """
    folder = Path(folder)
    if not is_adapter(folder):
        raise CamelidError(f"{folder} holds no {CONFIG}; an adapter is a folder in PEFT's layout")
    config = read_table(folder / CONFIG)
    with naming(folder / CONFIG):
        _check_config(config)
    _refuse_other_base(folder, base)
    stored, place_of = _read_tensors(folder / WEIGHTS), family_for(model.spec).place
    paths: dict[str, list[str]] = {}
    for path in adaptable(model):
        name = place_of(model.spec, f"{path}.weight").name.removesuffix(".weight")
        paths.setdefault(name, []).append(path)
    if foreign := sorted(stored.keys() - paths.keys()):
        raise CamelidError(
            f"{folder}: it updates {shortened(foreign[0])}, which is not a linear of this model's layers "
            f"(those are {', '.join(list(paths)[:4])}, ...); the adapter is for another model"
        )
    with naming(folder):
        updates = {name: _settings(config, name, pair) for name, pair in stored.items()}
        put_adapters(model, {path: updates[name] for name in stored for path in paths[name]})
        for name, (a, b) in stored.items():
            parts = {path: place_of(model.spec, f"{path}.weight") for path in paths[name]}
            for path, place in parts.items():
                _fill(model.get_submodule(path), name, a, b, place)
    return freeze_base(model).eval()


def _fill(module: nn.Module, name: str, a: Tensor, b: Tensor, place: Place) -> None:
    assert isinstance(module, LoRALinear)  # just put there
    inner, outer = module.in_features, module.out_features * place.parts
    if a.shape[1] != inner or b.shape[0] != outer:
        raise CamelidError(
            f"{name} has A {list(a.shape)} and B {list(b.shape)}, but its linear is {outer} x {inner}; "
            "the adapter is for another model"
        )
    with torch.no_grad():
        module.lora_a.copy_(a)
        module.lora_b.copy_(place._replace(transposed=False).take(b))


def _read_tensors(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B by the name of the linear."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CamelidError(f"{path}: cannot be read as safetensors ({reason_of(error)})") from error
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for key, a in tensors.items():
        name = key.removeprefix(PREFIX).removesuffix(A)
        if key.endswith(B) and f"{key.removesuffix(B)}{A}" in tensors:
            continue
        b = tensors.get(f"{key.removesuffix(A)}{B}")
        if not key.endswith(A) or b is None or not a.ndim == b.ndim == 2 or len(a) != b.shape[1]:
            raise CamelidError(
                f"{path}: {shortened(key)} is not one of a pair lora_A [rank, inputs] and lora_B "
                "[outputs, rank] of a linear; other updates are not supported"
            )
        found[name] = (a, b)
    if not found:
        raise CamelidError(f"{path} holds no updates")
    return found


def _settings(config: Mapping[str, Any], name: str, pair: tuple[Tensor, Tensor]) -> LoRA:
    """One linear's settings: PEFT's patterns are regular expressions that match the end of a name."""
    rank = _matched(config.get("rank_pattern"), name, config.get("r", 8))
    alpha = _matched(config.get("alpha_pattern"), name, config.get("lora_alpha", 8))
    if rank != len(pair[0]):
        raise CamelidError(f"{CONFIG} gives {name} rank {shortened(rank)}, but its A has {len(pair[0])} rows")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise CamelidError(f"{CONFIG} gives {name} lora_alpha {shortened(alpha)}, which is not a number")
    dropout = config.get("lora_dropout") or 0.0
    return LoRA(len(pair[0]), alpha, bool(config.get("use_rslora")), float(dropout))


def _matched(patterns: Mapping[str, Any] | None, name: str, default: Any) -> Any:
    found = [key for key in patterns or {} if re.match(rf"(.*\.)?({key})$", name)]
    return patterns[found[0]] if patterns and found else default


def _check_config(config: Mapping[str, Any]) -> None:
    if (kind := config.get("peft_type")) != "LORA":
        raise CamelidError(f"peft_type is {shortened(kind)}; supported: LORA")
    if config.get("bias", "none") != "none":
        raise CamelidError(f"bias is {shortened(config['bias'])}: trained biases are not supported")
    if on := [key for key in REFUSED if config.get(key)]:
        raise CamelidError(f"{on[0]} is set: {REFUSED[on[0]]} are not supported")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(CHANGES_BASE):
        raise CamelidError(
            f"init_lora_weights is {start!r}, which changes the base; convert the adapter to plain LoRA with "
            "PEFT first (save_pretrained(path_initial_model_for_weight_conversion=...))"
        )


def _refuse_other_base(folder: Path, base: Path) -> None:
    named = read_table(folder / OWN, optional=True).get("base")
    if isinstance(named, dict) and named.get("digest") not in (None, weights_digest(base)):
        raise CamelidError(
            f"{folder} was trained on another base, {named.get('name')}: the digest of its weights is "
            f"{str(named['digest'])[:12]}, that of {base} is {weights_digest(base)[:12]}; give that base"
        )


def _targets(model: Transformer, names: Sequence[str]) -> list[str]:
    """The shortest endings that PEFT matches to exactly these linears, else their whole names."""
    place_of = family_for(model.spec).place
    every = {place_of(model.spec, f"{path}.weight").name.removesuffix(".weight") for path in adaptable(model)}
    for words in (1, 2):
        endings = {".".join(name.split(".")[-words:]) for name in names}
        matched = {name for name in every if any(f".{name}".endswith(f".{ending}") for ending in endings)}
        if matched == set(names):
            return sorted(endings)
    return sorted(names)
