"""Weights over a mesh of processes: FSDP2 over its data dimension, tensor parallelism over the other.

Every parameter becomes a DTensor. FSDP2 shards all of them over the data dimension (Rajbhandari et al. 2020,
arXiv:1910.02054, stage 3): a block gathers its weights when it is called and its gradients are summed and
sharded again. Tensor parallelism splits the products of each block (Shoeybi et al. 2019, arXiv:1909.08053,
section 3): the first linears by output, so that a process has whole heads, and the last by input, after which
one sum restores the states. There is no pipeline, as in PaLM (arXiv:2204.02311, section 4).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.placement_types import Placement

from camelid.base.errors import WrongCall
from camelid.base.progress import in_bytes
from camelid.formats.hugging_face.checkpoint import blank_model
from camelid.model.dropout import Seeds, dropped, of_part
from camelid.model.initialize import initialize
from camelid.model.layers import Context
from camelid.model.lora import LoRALinear
from camelid.model.spec import ModelSpec, RelativeBuckets
from camelid.model.surgery import select
from camelid.model.transformer import Transformer

logger = logging.getLogger(__name__)

STATE_BYTES = 16
"""A trained parameter with its gradient and two moments, in float32."""
M = TypeVar("M", bound=Transformer)


@dataclass(frozen=True)
class Split:
    """How tensor parallelism lays out a module's parameters, its inputs and its output."""

    weight: Placement
    inputs: Placement
    output: Placement
    gradient: Placement | None = None
    """Of the output's gradient, where it differs from the output."""


BY_OUTPUT = Split(weight=Shard(0), inputs=Replicate(), output=Shard(-1))
BY_INPUT = Split(weight=Shard(1), inputs=Shard(-1), output=Replicate())
COPIED = Split(weight=Replicate(), inputs=Replicate(), output=Replicate(), gradient=Partial())
"""Keys and values that all heads share: each process uses all of them, for its own heads only."""
PER_HEAD = Split(weight=Replicate(), inputs=Shard(2), output=Shard(2))
SUB_LAYERS = ("*layers.*_attn", "*layers.*.mlp")
BIAS_OF_HEADS = Split(weight=Shard(1), inputs=Replicate(), output=Shard(0))


def tensor_plan(spec: ModelSpec, processes: int) -> dict[str, Split]:
    """The modules that `processes` share, by pattern of their paths; raises `WrongCall` if they cannot.

    Norms, embeddings and the output projection are not split.
    """
    if processes == 1:
        return {}
    sizes = {"heads": spec.num_heads, "feed-forward width": spec.feed_forward.width}
    if spec.num_kv_heads > 1:
        sizes["key-value heads"] = spec.num_kv_heads
    if odd := {name: size for name, size in sizes.items() if size % processes}:
        raise WrongCall(
            f"parallel.tensor is {processes}, which does not divide the model's "
            f"{' and '.join(f'{size} {name}' for name, size in odd.items())}; give a common divisor of "
            f"{', '.join(map(str, sizes.values()))} with --parallel.tensor"
        )
    shared = COPIED if spec.num_kv_heads == 1 else BY_OUTPUT
    plan = {"q": BY_OUTPUT, "k": shared, "v": shared, "o": BY_INPUT, "up": BY_OUTPUT, "down": BY_INPUT}
    if spec.feed_forward.gated:
        plan["gate"] = BY_OUTPUT
    patterns = {f"*layers.*.{name}_proj": split for name, split in plan.items()}
    if spec.query_key_norm:
        patterns |= {"*layers.*.q_norm": PER_HEAD, "*layers.*.k_norm": PER_HEAD}
    if isinstance(spec.positions, RelativeBuckets):
        patterns["*relative_bias"] = BIAS_OF_HEADS
    return patterns


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


def split_modules(model: Transformer, mesh: DeviceMesh, plan: Mapping[str, Split]) -> None:
    """Splits the modules that the plan's patterns select over a mesh of one dimension, in place."""
    modules = dict(model.named_modules())
    for pattern, split in plan.items():
        for path in select(modules, [pattern]):
            distribute_module(modules[path], mesh, *_hooks(split))
    for path in select(modules, SUB_LAYERS) if plan else []:
        modules[path].register_forward_pre_hook(partial(_enter_once, mesh, mesh.get_local_rank()))


def _enter_once(
    mesh: DeviceMesh, part: int, _module: nn.Module, inputs: tuple[Tensor, Context | Seeds | None]
) -> tuple[DTensor, Context | Seeds | None]:
    """The states of a sub-layer as one DTensor for all its linears: a single sum of their gradients.

    Inside, a process drops values of its own heads or inner values only.
    """
    states, context = inputs
    if isinstance(context, Context):
        if context.seeds is not None:
            context = replace(context, seeds=of_part(context.seeds, part, mesh.size()))
    elif context is not None:
        context = of_part(context, part, mesh.size())
    return _as_dtensor(states, mesh), context


def _drop_of_part(module: LoRALinear, x: DTensor, seeds: Seeds | None) -> Tensor:
    """The dropout of an adapter: that of a process's part of the inputs, or of all where they are copied."""
    if seeds is not None and not x.placements[0].is_shard():
        seeds = seeds[:, 0]
    own = dropped(x.to_local(), module.settings.dropout, seeds, module.site)
    return DTensor.from_local(own, x.device_mesh, x.placements, run_check=False)


def _as_dtensor(tensor: Tensor, mesh: DeviceMesh, placement: Placement | None = None) -> DTensor:
    if isinstance(tensor, DTensor):
        return tensor
    return DTensor.from_local(tensor, mesh, [placement or Replicate()], run_check=False)


def _placement(name: str, parameter: Tensor, of_weight: Placement) -> Placement:
    """That of a parameter beside a weight: a bias and the B of an adapter have outputs, its A inputs only."""
    by_input = of_weight == Shard(1)
    if name == "lora_a":
        return of_weight if by_input else Replicate()
    has_outputs_only = parameter.ndim == 1 or name == "lora_b"
    return Replicate() if has_outputs_only and by_input else of_weight


def _hooks(split: Split) -> tuple[Any, Any, Any]:
    """What `distribute_module` does to the parameters, and before and after the module is called."""

    def partition(_name: str, module: nn.Module, mesh: DeviceMesh) -> None:
        for name, parameter in list(module.named_parameters(recurse=False)):
            placement = _placement(name, parameter, split.weight)
            part = distribute_tensor(parameter.detach(), mesh, [placement], src_data_rank=None)
            module.register_parameter(name, nn.Parameter(part, parameter.requires_grad))
        if isinstance(module, LoRALinear):
            module.drop = partial(_drop_of_part, module)  # type: ignore[method-assign]

    def enter(module: nn.Module, inputs: tuple[Any, ...], mesh: DeviceMesh) -> tuple[Any, ...]:
        values = inputs[:1] if isinstance(module, LoRALinear) else inputs  # an adapter is given seeds, too
        placed = (
            _as_dtensor(each, mesh, split.inputs) if isinstance(each, Tensor) else each for each in values
        )
        return *placed, *inputs[len(values) :]

    def leave(_module: nn.Module, output: Any, mesh: DeviceMesh) -> Tensor:
        gradient = None if split.gradient is None else [split.gradient]
        return output.redistribute(mesh, [split.output]).to_local(grad_placements=gradient)  # type: ignore[no-any-return]

    return partition, enter, leave


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
