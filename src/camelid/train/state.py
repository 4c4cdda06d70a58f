"""What a killed run needs to go on as if nothing had happened: weights, optimiser moments and the step."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from camelid.base.errors import CamelidError
from camelid.base.json import read_table, write_json


def save_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Writes weights.safetensors, optimizer.safetensors and state.json; `step` counts the updates made."""
    trained = _trained(model)
    save_file({name: tensor.contiguous() for name, tensor in trained.items()}, folder / "weights.safetensors")
    moments = {
        f"{name}.{key}": torch.as_tensor(value).contiguous()
        for name, parameter in trained.items()
        for key, value in optimizer.state[parameter].items()
    }
    save_file(moments, folder / "optimizer.safetensors")
    write_json(folder / "state.json", {"step": step})


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Puts a saved state into model and optimiser; the number of updates made so far."""
    trained = _trained(model)
    weights = load_file(folder / "weights.safetensors")
    if weights.keys() != trained.keys():
        odd = sorted(weights.keys() ^ trained.keys())
        raise CamelidError(
            f"{folder}: the saved state is of another model; differing tensors: {', '.join(odd[:5])}"
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(weights[name])
    for key, value in load_file(folder / "optimizer.safetensors").items():
        name, _, kind = key.rpartition(".")
        # The fused update reads the step count, too, from the parameter's own device.
        optimizer.state[trained[name]][kind] = value.to(trained[name].device)
    return int(read_table(folder / "state.json")["step"])


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
