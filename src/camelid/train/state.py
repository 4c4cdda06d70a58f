"""The state to resume a run exactly: weights, optimiser moments and the step."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from camelid.base.errors import CamelidError
from camelid.base.json import read_table, write_json
from camelid.train.parallel import ProcessGroup

ALONE = "torch.distributed is disabled"
"""How torch's warning begins that a single process reads a checkpoint."""


@dataclass(frozen=True)
class TrainingState:
    """Trained weights by name, the optimiser's moments by `name.kind`, and the number of updates made."""

    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    step: int


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> TrainingState:
    """The state after `step` updates; of a sharded model, each process has its own shards."""
    trained = _trained(model)
    moments = {
        f"{name}.{kind}": torch.as_tensor(value)
        for name, parameter in trained.items()
        for kind, value in optimizer.state[parameter].items()
    }
    return TrainingState({name: each.detach() for name, each in trained.items()}, moments, step)


def save_state(folder: Path, state: TrainingState, group: ProcessGroup | None = None) -> None:
    """Writes weights.safetensors, optimizer.safetensors and state.json.

    Several processes write a file of safetensors each, with their shards; all must call it with the same
    folder.
    """
    group = group or ProcessGroup()
    weights, moments = (
        {name: tensor.contiguous() for name, tensor in part.items()}
        for part in (state.weights, state.moments)
    )
    if group.size == 1:
        save_file(weights, folder / "weights.safetensors")
        save_file(moments, folder / "optimizer.safetensors")
    else:
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        with naming_process(folder):
            save({**weights, **moments}, storage_writer=writer, process_group=group.patient)
    if group.is_main:
        write_json(folder / "state.json", {"step": state.step})


def load_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, group: ProcessGroup | None = None
) -> int:
    """Loads a saved state into model and optimiser; returns the number of updates made so far.

    The state may be of another number of processes: each reads only the parts that its shards need.
    """
    group, trained = group or ProcessGroup(), _trained(model)
    stored = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    sizes = {name: each.size for name, each in stored.items()}  # type: ignore[union-attr]
    odd = [name for name, each in trained.items() if sizes.get(name) != each.shape]
    odd += [name for name in stored if name not in trained and name.rpartition(".")[0] not in trained]
    if odd:
        some = ", ".join(sorted(odd)[:5])
        raise CamelidError(f"{folder}: the saved state is of another model; tensors that differ: {some}")
    weights = {name: parameter.detach() for name, parameter in trained.items()}
    moments = {}
    for key in stored.keys() - trained.keys():
        name, _, kind = key.rpartition(".")
        dtype = stored[key].properties.dtype  # type: ignore[union-attr]
        optimizer.state[trained[name]][kind] = moments[key] = _laid_out_as(weights[name], sizes[key], dtype)
    with warnings.catch_warnings(), naming_process(folder):
        warnings.filterwarnings("ignore", ALONE)
        load(
            {**weights, **moments},
            storage_reader=HuggingFaceStorageReader(str(folder)),
            process_group=group.patient,
            no_dist=group.size == 1,
        )
    return int(read_table(folder / "state.json")["step"])


@contextmanager
def naming_process(folder: Path) -> Iterator[None]:
    """Raises `CamelidError` with the first process that could not read or write its part, and why."""
    try:
        yield
    except CheckpointException as error:
        rank, (reason, _) = min(error.failures.items())
        raise CamelidError(f"{folder}: process {rank} could not read or write its part: {reason}") from error


def _laid_out_as(parameter: Tensor, size: torch.Size, dtype: torch.dtype) -> Tensor:
    """An empty moment as the optimiser itself would allocate it: on the parameter's device, with its strides
    and shards.

    torch's fused updates go through the memory of parameter and moments in step. A matrix that is stored
    transposed (all of GPT-2's) would meet the moments of other elements.
    """
    if size != parameter.shape:
        return torch.empty(size, dtype=dtype, device=parameter.device)  # step counts, Adafactor's rows
    return torch.empty_like(parameter, dtype=dtype)


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
