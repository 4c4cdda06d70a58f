"""The state to resume a run exactly: weights, optimiser moments and the step."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from camelid.base.errors import CamelidError
from camelid.base.json import read_table, write_json
from camelid.train.sharding import laid_out_as, whole


@dataclass(frozen=True)
class TrainingState:
    """Trained weights by name, the optimiser's moments by `name.kind`, and the number of updates made."""

    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    step: int


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> TrainingState:
    """The state after `step` updates; all processes must call it."""
    trained = _trained(model)
    moments = {
        f"{name}.{kind}": whole(torch.as_tensor(value))
        for name, parameter in trained.items()
        for kind, value in optimizer.state[parameter].items()
    }
    weights = {name: whole(parameter.detach()) for name, parameter in trained.items()}
    return TrainingState(weights, moments, step)


def save_state(folder: Path, state: TrainingState) -> None:
    """Writes weights.safetensors, optimizer.safetensors and state.json."""
    for name, tensors in (("weights", state.weights), ("optimizer", state.moments)):
        save_file(
            {key: tensor.contiguous() for key, tensor in tensors.items()}, folder / f"{name}.safetensors"
        )
    write_json(folder / "state.json", {"step": state.step})


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Loads a saved state into model and optimiser; returns the number of updates made so far."""
    trained = _trained(model)
    weights = load_file(folder / "weights.safetensors")
    if weights.keys() != trained.keys():
        odd = sorted(weights.keys() ^ trained.keys())
        raise CamelidError(
            f"{folder}: the saved state is of another model; tensors that differ: {', '.join(odd[:5])}"
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(laid_out_as(weights[name], parameter))
    for key, value in load_file(folder / "optimizer.safetensors").items():
        name, _, kind = key.rpartition(".")
        optimizer.state[trained[name]][kind] = _laid_out_as(trained[name], value)
    return int(read_table(folder / "state.json")["step"])


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """A moment as the optimiser itself would allocate it: on the parameter's device, with its strides.

    torch's fused updates go through the memory of parameter and moments in step. A matrix that is stored
    transposed (all of GPT-2's) would meet the moments of other elements.
    """
    if value.shape != parameter.shape:
        return value.to(parameter.device)  # step counts, Adafactor's rows and columns
    return torch.empty_like(parameter, dtype=value.dtype).copy_(laid_out_as(value, parameter))


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
