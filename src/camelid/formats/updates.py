"""Low-rank updates as files hold them: by the names of tensors, several of ours joined where a file joins
them."""

from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.formats.hugging_face.checkpoint import blank_model
from camelid.formats.names import Place
from camelid.model.adapters import adaptable, adapted
from camelid.model.lora import LoRALinear
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer

PlaceOf = Callable[[ModelSpec, str], Place]


class Update(NamedTuple):
    """s B A of one tensor on disk, in float32."""

    a: Float[Tensor, "rank inner"]
    b: Float[Tensor, "outer rank"]
    scale: float


def stored_updates(model: Transformer, place_of: PlaceOf) -> dict[str, Update]:
    """A model's updates by the names that a format gives the tensors below them, without `.weight`."""
    found, parts = adapted(model), defaultdict[str, dict[int, str]](dict)
    places: dict[str, Place] = {}
    for path in adaptable(model):
        place = place_of(model.spec, f"{path}.weight")
        name = place.name.removesuffix(".weight")
        parts[name][place.part], places[name] = path, place
    return {
        name: _joined([_update(model, paths[part], place_of) for part in sorted(paths)], places[name])
        for name, paths in parts.items()
        if any(path in found for path in paths.values())
    }


def _update(model: Transformer, path: str, place_of: PlaceOf) -> Update:
    """The update of one of our linears, of rank 0 if it has none; the rows of B in the order of the file."""
    module = model.get_submodule(path)
    if not isinstance(module, LoRALinear):
        whole = blank_model(model.spec).get_submodule(path)  # processes may share this one's weight
        outer, inner = int(whole.out_features), int(whole.in_features)  # type: ignore[arg-type]
        return Update(torch.zeros(0, inner), torch.zeros(outer, 0), 1.0)
    a, b = (each.detach().float().cpu() for each in (module.lora_a, module.lora_b))
    rows = place_of(model.spec, f"{path}.weight")._replace(parts=1, transposed=False)
    return Update(a, rows.put([b]), module.settings.scale)


def _joined(parts: list[Update], place: Place) -> Update:
    """One update for the rows of several: one A that all of them share, or their ranks side by side."""
    first = next(part for part in parts if len(part.a))
    if all(part.scale == first.scale and torch.equal(part.a, first.a) for part in parts):
        a, b = first.a, torch.cat([part.b for part in parts])
    else:
        scaled = [part.b * (part.scale / first.scale) for part in parts]
        a, b = torch.cat([part.a for part in parts]), torch.block_diag(*scaled)  # type: ignore[no-untyped-call]
    # Some files alternate the rows of the parts, head by head.
    together = place._replace(pairs=0, transposed=False)
    return Update(a, together.put([*b.chunk(place.parts)]), first.scale)
