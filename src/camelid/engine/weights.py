"""The weights of a model that is trained elsewhere: computed with as in evaluation, watched, and exchanged."""

import copy
from collections import defaultdict
from collections.abc import Mapping
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
    "the model's parameters have changed since the engine read them, and its cache and copies are of the old ones: "
    "call engine.set_weights() after every change"
)
Module = TypeVar("Module", bound=nn.Module)


def in_evaluation(module: Module, twins: dict[nn.Module, nn.Module] | None = None) -> Module:
    """The same module in evaluation mode, over the very same parameters; the mode of the module given stays as it is."""
    twins = {} if twins is None else twins
    if module not in twins:
        twin = twins[module] = copy.copy(module)
        twin.training = False
        twin._modules = {
            name: child and in_evaluation(child, twins) for name, child in module._modules.items()
        }
    return cast(Module, twins[module])


class WeightWatch:
    """Tells whether a model's weights have changed: in place, or by others in their place.

    It compares which tensors they are, and torch's version counters. Fused optimizers and writes through `.data` do not
    count versions, so where the parameters lie and `SAMPLED` values of each are compared too.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.renew()

    @property
    def changed(self) -> bool:
        """Whether they are others than when the watch was made or renewed."""
        if [*map(id, self._present())] != self._ids:
            return True
        if self._addresses != self._now_at() or self._versions != self._now_counted():
            return True
        return not all(map(torch.equal, self._sampled, self._samples()))

    def check(self) -> None:
        """Raises `CamelidError` where they are."""
        if self.changed:
            raise CamelidError(CHANGED)

    def renew(self) -> None:
        """Takes the weights as they are now."""
        # Looked through at every check: walking the modules takes longer than all else.
        self._slots = [
            slots
            for module in self._model.modules()
            for slots in (module._parameters, module._buffers)
            if slots
        ]
        present = self._present()
        self._ids = [*map(id, present)]
        tensors = [each for each in present if each is not None and each.numel() and not each.is_meta]
        self._counted = [each for each in tensors if not each.is_inference()]
        # Buffers may be many (packed weights), and what changes them without a version is no trainer.
        self._watched = [each for each in tensors if isinstance(each, nn.Parameter) or each.is_inference()]
        self._addresses, self._versions = self._now_at(), self._now_counted()
        views: defaultdict[tuple[torch.device, int], list[Tensor]] = defaultdict(list)
        for tensor in self._watched:
            count = min(SAMPLED, tensor.numel())
            view = tensor.detach().as_strided((count,), (tensor.numel() // count,))
            views[tensor.device, tensor.itemsize].append(view.view(BITS[tensor.itemsize]))
        self._views = [*views.values()]
        self._sampled = self._samples()

    def _present(self) -> list[Tensor | None]:
        return [tensor for slots in self._slots for tensor in slots.values()]

    def _samples(self) -> list[Tensor]:
        return [torch.cat(views) for views in self._views]

    def _now_at(self) -> list[int]:
        return [*map(Tensor.data_ptr, self._watched)]

    def _now_counted(self) -> list[int]:
        return [*map(attrgetter("_version"), self._counted)]


def copy_weights(model: Transformer, state: Mapping[str, Tensor]) -> None:
    """Copies a state dict into a model's own tensors, whatever its dtype and device.

    Raises `WrongCall` and changes nothing where names or shapes are not the model's.
    """
    own = model.state_dict()
    if any(isinstance(module, PackedLinear) for module in model.modules()):
        raise WrongCall("the model's weights are packed: only a new engine takes others")
    for what, names in (("lacks", own.keys() - state.keys()), ("has", state.keys() - own.keys())):
        if names:
            raise WrongCall(
                f"the state {what} {', '.join(sorted(names)[:8])}{', ...' if len(names) > 8 else ''}, which the model "
                f"{'has' if what == 'lacks' else 'has not'}"
            )
    for name, tensor in own.items():
        if state[name].shape != tensor.shape:
            raise WrongCall(f"{name} is {list(state[name].shape)}; the model's is {list(tensor.shape)}")
    with torch.inference_mode():
        for name, tensor in own.items():
            tensor.copy_(state[name])
