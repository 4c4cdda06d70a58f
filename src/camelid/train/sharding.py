"""Weights over a mesh of processes: FSDP2 over its data dimension, tensor parallelism over the other.

Every parameter becomes a DTensor. FSDP2 shards all of them over the data dimension (Rajbhandari et al. 2020,
arXiv:1910.02054, stage 3): a block gathers its weights when it is called and its gradients are summed and
sharded again. `camelid.train.tensor_parallel` splits the products of each block before that. There is no
pipeline, as in PaLM (arXiv:2204.02311, section 4).
"""

import logging
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from camelid.base.progress import in_bytes
from camelid.formats.hugging_face.checkpoint import blank_model
from camelid.model.initialize import initialize
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.train.tensor_parallel import split_modules, tensor_plan

logger = logging.getLogger(__name__)

STATE_BYTES = 16
"""A trained parameter with its gradient and two moments, in float32."""
M = TypeVar("M", bound=Transformer)


def shard(model: M, mesh: DeviceMesh | None, gathered: torch.dtype | None = None) -> M:
    """Shards the weights of a model over `mesh` [data, tensor], in place, unless they are; None: one process.

    gathered: the precision in which a block's weights are gathered; gradients are summed in float32.
    """
    if mesh is not None and not isinstance(model, FSDPModule):
        data, tensor = mesh["data"], mesh["tensor"]
        policy = MixedPrecisionPolicy(
            param_dtype=gathered, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        split_modules(model, tensor, tensor_plan(model.spec, tensor.size()))
        blocks = [block for stack in model.stacks for block in stack.layers]
        modules: list[nn.Module] = [*blocks, *reversed(model.stacks)]  # the root, which holds all, last
        for module in modules:
            # Also the root: `model.parameters()` are the shards whenever no pass is under way.
            sharded = fully_shard(module, mesh=data, reshard_after_forward=True, mp_policy=policy)
            # Gradients are divided by the update's trained tokens, so that they are summed, not averaged.
            sharded.set_gradient_divide_factor(1.0)
            sharded.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sums
        held = sum(local(each.detach()).numel() for each in model.parameters() if each.requires_grad)
        logger.info(
            f"a mesh of {data.size()} x {tensor.size()} processes (data x tensor), each with about "
            f"{in_bytes(STATE_BYTES * held)} of weights, gradients and AdamW's moments"
        )
    return model


def new_model(
    spec: ModelSpec,
    seed: int,
    mesh: DeviceMesh | None,
    device: torch.device,
    gathered: torch.dtype | None = None,
) -> Transformer:
    """A model with the weights that `Transformer(spec).initialize(seed)` draws, sharded over `mesh`.

    Each process allocates its shards only. All draw the same numbers, one whole tensor at a time.
    """
    if mesh is None:
        return Transformer(spec).initialize(seed).to(device)
    model = shard(blank_model(spec), mesh, gathered).to_empty(device=device)

    def put(parameter: nn.Parameter, drawn: Tensor) -> None:
        parameter.copy_(laid_out_as(drawn.to(device), parameter))

    initialize(model, spec, seed, put=put)
    return model


def reduce_gradients(model: nn.Module, now: bool) -> None:
    """Whether the next backward pass sums gradients over the processes, or leaves that to a later one."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of a weight, gradient or moment that may be sharded; all processes must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that may be sharded; shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def laid_out_as(tensor: Tensor, like: Tensor) -> Tensor:
    """A full tensor, the same in all processes, sharded as `like` is."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


@torch.no_grad()
def renew(copy: M, model: M) -> None:
    """Gives a whole copy of a sharded model its present trained weights; all processes must call it."""
    for own, trained in zip(copy.parameters(), model.parameters(), strict=True):
        if trained.requires_grad:
            own.copy_(whole(trained.detach()))


def is_split(tensor: Tensor) -> bool:
    """Whether tensor parallelism splits a tensor, so that no two processes have the same part."""
    return isinstance(tensor, DTensor) and tensor.device_mesh.ndim == 2 and tensor.placements[1].is_shard()


def gather(model: M, keep: bool) -> M:
    """Makes the parameters of a sharded model whole again, on the CPU; those that are not kept stay sharded.

    All processes must call it. Afterwards the model is only good for saving.
    """
    if isinstance(model, FSDPModule):
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
            for name, parameter in list(module.named_parameters(recurse=False)):
                full = whole(parameter.detach())
                if keep:
                    setattr(module, name, nn.Parameter(full.cpu(), parameter.requires_grad))
    return model
