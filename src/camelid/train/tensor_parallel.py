"""Tensor parallelism: the products of each block split over processes (Shoeybi et al. 2019, arXiv:1909.08053,
section 3).

The first linears are split by output, so that a process has whole heads, and the last by input, after which
one sum restores the states. Weights become DTensors; those of few bits, which are not trained, plain parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import Placement

from camelid.base.errors import WrongCall, naming
from camelid.model import surgery
from camelid.model.dropout import Seeds, dropped, of_part
from camelid.model.layers import Context
from camelid.model.linears import kind_of
from camelid.model.lora import LoRALinear
from camelid.model.spec import ModelSpec, RelativeBuckets
from camelid.model.transformer import Transformer
from camelid.quant.frozen import FrozenLinear


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
LAST = Shard(2)
"""Of [batch, time, values], where torch takes no -1."""
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


def split_modules(model: Transformer, mesh: DeviceMesh, plan: Mapping[str, Split]) -> None:
    """Splits the modules that the plan's patterns select over a mesh of one dimension, in place."""
    paths = [path for path, _ in model.named_modules()]
    for pattern, split in plan.items():
        for path in surgery.select(paths, [pattern]):
            _split(model, path, mesh, split)
    for path in surgery.select(paths, SUB_LAYERS) if plan else []:
        enter = partial(_enter_once, mesh, mesh.get_local_rank())
        model.get_submodule(path).register_forward_pre_hook(enter)


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


def _split(model: Transformer, path: str, mesh: DeviceMesh, split: Split) -> None:
    """Splits the parameters of the module at `path`, and lays out its inputs and its output."""
    module = model.get_submodule(path)
    with naming(path):
        if isinstance(module, LoRALinear):
            module.drop = partial(_drop_of_part, module)  # type: ignore[method-assign]
            module.base = _own_part(module.base, mesh, split.weight)
        else:
            module = _own_part(module, mesh, split.weight)
            surgery.replace(model, path, module)
    for each in module.modules():
        for name, parameter in list(each.named_parameters(recurse=False)):
            placement = _placement(name, parameter, split.weight)
            part = distribute_tensor(parameter.detach(), mesh, [placement], src_data_rank=None)
            each.register_parameter(name, nn.Parameter(part, parameter.requires_grad))
    adapts = isinstance(module, LoRALinear)

    def enter(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        values = inputs[:1] if adapts else inputs  # an adapter is given seeds, too
        placed = (
            _as_dtensor(each, mesh, split.inputs) if isinstance(each, Tensor) else each for each in values
        )
        return *placed, *inputs[len(values) :]

    def leave(_module: nn.Module, _inputs: Any, output: DTensor) -> Tensor:
        gradient = None if split.gradient is None else [split.gradient]
        return output.redistribute(mesh, [split.output]).to_local(grad_placements=gradient)

    module.register_forward_pre_hook(enter, prepend=True)
    module.register_forward_hook(leave)


def _own_part(module: nn.Module, mesh: DeviceMesh, weight: Placement) -> nn.Module:
    """This process's part of a linear of few bits, which takes and gives DTensors; others stay themselves."""
    if kind_of(module) not in ("packed", "nf4"):
        return module
    of_inputs: Placement = Replicate()  # of their gradient
    of_output: Placement = Replicate()
    if isinstance(weight, Shard):
        dim = weight.dim
        module = cast(FrozenLinear, module).part(mesh.get_local_rank(), mesh.size(), dim)
        of_inputs, of_output = (Partial(), Shard(-1)) if dim == 0 else (LAST, Partial())

    def enter(_module: nn.Module, inputs: tuple[DTensor]) -> tuple[Tensor]:
        return (inputs[0].to_local(grad_placements=[of_inputs]),)

    def leave(_module: nn.Module, _inputs: Any, output: Tensor) -> DTensor:
        return DTensor.from_local(output, mesh, [of_output], run_check=False)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave)
    return module
