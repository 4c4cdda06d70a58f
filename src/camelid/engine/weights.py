"""The weights of a model that is trained elsewhere: computed with as in evaluation, watched, and
exchanged."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from camelid.base.errors import CamelidError, WrongCall
from camelid.model.transformer import Transformer
from camelid.quant.packed import PackedLinear

SAMPLED = 64
"""Values of each parameter that are compared."""
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
CHANGED = (
    "the model's parameters have changed since the engine read them, and its cache and copies are of the old "
    "ones: "
    "call engine.set_weights() after every change"
)
Module = TypeVar("Module", bound=nn.Module)


def in_evaluation(module: Module, twins: dict[nn.Module, nn.Module] | None = None) -> Module:
    """The same module in evaluation mode, over the very same parameters; the mode of the module given stays
    as it is."""
    twins = {} if twins is None else twins
    if module not in twins:
        twin = twins[module] = object.__new__(type(module))  # FSDP's classes cannot be copied
        twin.__dict__.update(module.__dict__)
        twin.training = False
        twin._modules = {
            name: child and in_evaluation(child, twins) for name, child in module._modules.items()
        }
    return cast(Module, twins[module])


class WeightWatch:
    """Tells whether a model's weights have changed: in place, or by others in their place.

    Fused optimizers and writes through `.data` do not count torch's versions, so where parameters lie and
    `SAMPLED` values of each are compared too.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.renew()

    @property
    def changed(self) -> bool:
        """Whether they are others than when the watch was made or renewed."""
        return self.parameters_changed or self._buffers.changed

    @property
    def parameters_changed(self) -> bool:
        """The same of parameters, which takes less time: packed weights are hundreds of buffers."""
        if self._parameters.changed or self._addresses != self._now_at():
            return True
        return not all(map(torch.equal, self._sampled, self._samples()))

    def check(self, parameters_only: bool = False) -> None:
        """Raises `CamelidError` where they are."""
        if self.parameters_changed if parameters_only else self.changed:
            raise CamelidError(CHANGED)

    def renew(self) -> None:
        """Takes the weights as they are now."""
        modules = [*self._model.modules()]
        self._parameters = _Slots([module._parameters for module in modules])
        self._buffers = _Slots([module._buffers for module in modules])
        uncounted = [each for each in self._buffers.tensors if each.is_inference()]
        self._watched = [*self._parameters.tensors, *uncounted]
        self._addresses = self._now_at()
        views: defaultdict[tuple[torch.device, int], list[Tensor]] = defaultdict(list)
        for tensor in self._watched:
            count = min(SAMPLED, tensor.numel())
            view = tensor.detach().as_strided((count,), (tensor.numel() // count,))
            views[tensor.device, tensor.itemsize].append(view.view(BITS[tensor.itemsize]))
        self._views = [*views.values()]
        self._sampled = self._samples()

    def _samples(self) -> list[Tensor]:
        return [torch.cat(views) for views in self._views]

    def _now_at(self) -> list[int]:
        return [*map(Tensor.data_ptr, self._watched)]


class _Slots:
    """What modules hold their tensors in, and what was in it: which tensors, of which versions.

    `tensors` are those that have values.
    """

    def __init__(self, slots: Sequence[Mapping[str, Tensor | None]]) -> None:
        self._slots = [each for each in slots if each]
        held = self._held()
        self._ids = [*map(id, held)]
        self.tensors = [each for each in held if each is not None and each.numel() and not each.is_meta]
        self._counted = [each for each in self.tensors if not each.is_inference()]
        self._versions = self._now_counted()

    @property
    def changed(self) -> bool:
        return [*map(id, self._held())] != self._ids or self._versions != self._now_counted()

    def _held(self) -> list[Tensor | None]:
        return [tensor for slots in self._slots for tensor in slots.values()]

    def _now_counted(self) -> list[int]:
        return [*map(attrgetter("_version"), self._counted)]


def copy_weights(model: Transformer, state: Mapping[str, Tensor]) -> None:
    """Copies a state dict of any dtype and device into a model's own tensors.

    Raises `WrongCall` and changes nothing where names or shapes are not the model's.
    """
    own = model.state_dict()
    if any(isinstance(module, PackedLinear) for module in model.modules()):
        raise WrongCall("the model's weights are packed: only a new engine takes others")
    for what, names in (("lacks", own.keys() - state.keys()), ("has", state.keys() - own.keys())):
        if names:
            raise WrongCall(
                f"the state {what} {', '.join(sorted(names)[:8])}{', ...' if len(names) > 8 else ''}, "
                "which the model "
                f"{'has' if what == 'lacks' else 'has not'}"
            )
    for name, tensor in own.items():
        if state[name].shape != tensor.shape:
            raise WrongCall(f"{name} is {list(state[name].shape)}; the model's is {list(tensor.shape)}")
    with torch.inference_mode():
        for name, tensor in own.items():
            tensor.copy_(state[name])
