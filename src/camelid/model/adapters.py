"""Adapters: low-rank updates put onto chosen linears of a model, taken off, and merged into their weights."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from camelid.base.errors import CamelidError
from camelid.model.linears import WAYS_OUT, kind_of, linears
from camelid.model.lora import LoRA, LoRALinear
from camelid.model.surgery import replace, select
from camelid.model.transformer import Transformer

LAYERS = "layers"
LINEARS_OF_LAYERS = ("*layers.*_proj",)
"""Patterns of all linears that can have an update, those of encoders too."""


def adaptable(model: Transformer) -> list[str]:
    """The paths of the linears that can have an update: those of all layers, not the output projection."""
    return [path for path in linears(model) if LAYERS in path.split(".")]


def adapted(model: nn.Module) -> dict[str, LoRALinear]:
    """A model's linears with an update, by path."""
    return {path: module for path, module in linears(model).items() if isinstance(module, LoRALinear)}


def has_quantised_base(model: nn.Module) -> bool:
    """Whether any linear, below an update or without one, has quantised weights."""
    bases = (each.base if isinstance(each, LoRALinear) else each for each in linears(model).values())
    return any(kind_of(base) in ("packed", "nf4") for base in bases)


def add_lora(model: Transformer, settings: LoRA, targets: Sequence[str], seed: int = 0) -> Transformer:
    """Puts new updates onto the linears that the patterns match (see `surgery.select`), and freezes the rest.

    Raises `CamelidError` that names the linears there are if a pattern matches none of them.
    """
    put_adapters(model, dict.fromkeys(select(adaptable(model), targets), settings))
    generator = torch.Generator().manual_seed(seed)
    for module in adapted(model).values():
        module.initialize(generator)
    return freeze_base(model)


def put_adapters(model: Transformer, wanted: Mapping[str, LoRA]) -> None:
    """Puts updates with weights of 0 onto the linears at these paths."""
    found, device = linears(model), model.embed_tokens.weight.device
    device = torch.device("cpu") if device.type == "meta" else device  # of a model that is never computed
    sites = {name: number for number, name in enumerate(sorted({_in_block(path) for path in found}))}
    for path, settings in wanted.items():
        base = found[path]
        if kind_of(base) in ("lora", None):
            raise CamelidError(f"{path} is a {type(base).__name__} and takes no update; {WAYS_OUT['lora']}")
        replace(model, path, LoRALinear(base, settings, sites[_in_block(path)], device).train(model.training))
    for stack in model.stacks:
        stack.adapter_dropout = max((each.dropout for each in wanted.values()), default=0.0)


def freeze_base(model: Transformer) -> Transformer:
    """Leaves only the updates to be trained."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for module in adapted(model).values():
        module.lora_a.requires_grad_(True)
        module.lora_b.requires_grad_(True)
    return model


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Inside, the model computes as if it had no updates: its base is the reference of a tuned policy."""
    updates = adapted(model).values()
    for module in updates:
        module.enabled = False
    try:
        yield
    finally:
        for module in updates:
            module.enabled = True


@torch.no_grad()
def merge_adapters(model: Transformer) -> Transformer:
    """Adds every update to the weights below it, W + s B A, computed in float32; in place.

    Raises `CamelidError` where the weights below are quantised.
    """
    for path, module in adapted(model).items():
        base = module.base
        if kind_of(base) != "plain":
            raise CamelidError(f"{path} is quantised and cannot take an update; dequantise the model first")
        weight = base.weight
        assert isinstance(weight, nn.Parameter)
        merged = (weight.float() + module.delta()).to(weight.dtype)
        base.weight = nn.Parameter(merged, requires_grad=weight.requires_grad)  # mapped files are read-only
        replace(model, path, base)
    return model


def _in_block(path: str) -> str:
    """A linear's path below its layer: `layers.3.self_attn.q_proj` -> `self_attn.q_proj`."""
    _, found, rest = path.rpartition(f"{LAYERS}.")
    return rest.partition(".")[2] if found else path
