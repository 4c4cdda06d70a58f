"""Checkpoints: folders in the Hugging Face layout, with config.json, safetensors (sharded when large) and a
tokenizer. Camelid's own metadata (parents, recipe, data) is in camelid.json."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from camelid.base.errors import CamelidError, naming
from camelid.base.json import write_json
from camelid.formats.hugging_face.families import Family, family_for, family_of
from camelid.formats.hugging_face.stored_files import QUANTIZERS
from camelid.formats.hugging_face.stored_files import read_config as read_config
from camelid.formats.hugging_face.stored_files import read_tensors as read_tensors
from camelid.formats.hugging_face.stored_files import weight_bytes as weight_bytes
from camelid.formats.hugging_face.tensor_files import (
    DEFAULT_SHARD_BYTES,
    dtype_name,
    save_tensors,
)
from camelid.formats.names import Place
from camelid.model.linears import known_linears
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.runs.provenance import write_provenance

EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"
WIDENED = (
    torch.float64,
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
)
"""Supported dtypes of stored weights; smaller ones need separate scales."""
LEAST_TENSORS = 6
"""Minimum number of tensors per layer: that of GPT-2 without biases."""


def read_spec(folder: Path) -> ModelSpec:
    """The `ModelSpec` that the folder's config.json describes."""
    config = read_config(folder)
    with naming(folder):
        return family_of(config).read(config)


def load_checkpoint(folder: Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model in `folder`, its weights in `dtype`, in evaluation mode.

    Weights stored in `dtype` stay memory-mapped until they are used. Raises `CamelidError` that lists missing
    or unexpected tensors and wrong shapes, or names a truncated file.
    """
    return fill(*_open(Path(folder)), dtype)


def stored_parameters(folder: Path) -> tuple[ModelSpec, dict[str, Tensor]]:
    """The model as its spec and memory-mapped parameters by name, in the dtypes of the file."""
    model, folder, tensors = _open(Path(folder))
    return model.spec, _placed(model, folder, tensors)


def _open(folder: Path) -> tuple[Transformer, Path, dict[str, Tensor]]:
    if "quantization_config" in read_config(folder):
        raise CamelidError(f"{folder} is quantised; use the full-precision model that it was made from")
    spec = read_spec(folder)
    tensors = read_tensors(folder)
    if any(name.endswith(".qweight") for name in tensors):
        raise CamelidError(
            f"{folder} holds quantised weights, but no settings of them: "
            "config.json has no quantization_config, and "
            f"there is no {' or '.join(QUANTIZERS)}; download them"
        )
    with naming(folder):
        return blank_model(spec, (tensor.numel() for tensor in tensors.values())), folder, tensors


def fill(model: Transformer, folder: Path, tensors: dict[str, Tensor], dtype: torch.dtype) -> Transformer:
    """Assigns the tensors read from `folder`, by their names on disk, to a model on the meta device.

    Raises `CamelidError` that lists missing or unexpected tensors and wrong shapes.
    """
    state = {name: tensor.to(dtype) for name, tensor in _placed(model, folder, tensors).items()}
    model.load_state_dict(state, assign=True)
    return model.eval()


def _placed(model: Transformer, folder: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    spec, family = model.spec, family_for(model.spec)
    _usual_names(tensors, family)
    if spec.tie_embeddings:
        _share_embedding(folder, tensors, family.place(spec, EMBEDDING).name, family.place(spec, HEAD).name)
    state = model.state_dict()
    places = {name: family.place(spec, name) for name in state}
    shapes = {place.name: place.stored_shape(state[name].shape) for name, place in places.items()}
    _check_tensors(folder, shapes, tensors, family)
    return {name: place.take(tensors[place.name]) for name, place in places.items()}


def stored_tensors(
    place_of: Callable[[ModelSpec, str], Place], spec: ModelSpec, parameters: Iterable[tuple[str, Tensor]]
) -> Iterator[tuple[str, Tensor]]:
    """Converts our parameters to tensors on disk; yields each once its last part has arrived."""
    waiting: defaultdict[str, dict[int, Tensor]] = defaultdict(dict)
    for name, tensor in parameters:
        place = place_of(spec, name)
        parts = waiting[place.name]
        parts[place.part] = tensor
        if len(parts) == place.parts:
            yield place.name, place.put([parts[part] for part in range(place.parts)])
            del waiting[place.name]


def _usual_names(tensors: dict[str, Tensor], family: Family) -> None:
    """Gives tensors their usual names, and adds the prefix that some files omit, such as GPT-2's on the
    hub.
    """
    for name in family.other_names.keys() & tensors.keys():
        tensors[family.other_names[name]] = tensors.pop(name)
    prefix = family.optional_prefix
    if prefix and not any(name.startswith(prefix) for name in tensors):
        for name in [name for name in tensors if name != HEAD]:
            tensors[prefix + name] = tensors.pop(name)


def blank_model(spec: ModelSpec, stored: Iterable[int] | None = None) -> Transformer:
    """A model on the meta device; stored: sizes of its tensors on disk, see `check_belong_together`."""
    if stored is not None:
        check_belong_together(spec, stored)
    with torch.device("meta"), _NoInitialization():
        return Transformer(spec)


def check_belong_together(spec: ModelSpec, stored: Iterable[int]) -> None:
    """Raises `CamelidError` if the spec describes a far larger model than these tensors can fill.

    Otherwise a damaged size could build an enormous model.
    """
    sizes = list(stored)
    values, layers = sum(sizes), spec.num_layers + spec.encoder_layers
    if spec.parameter_count() > 2 * values or layers * LEAST_TENSORS > len(sizes):
        raise CamelidError(
            f"its sizes describe a model of {spec.parameter_count():,} parameters in {layers:,} layers, "
            f"but {values:,} in {len(sizes):,} tensors are stored; they do not belong together: "
            "download or convert the model again"
        )


class _NoInitialization(TorchFunctionMode):
    """Skips initialisation: random numbers on the meta device would import torch's compiler."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if kwargs else args[0]
        return function(*args, **(kwargs or {}))


def save_checkpoint(
    folder: Path,
    model: Transformer,
    *,
    dtype: torch.dtype = torch.float32,
    special_ids: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Writes the model with `write_checkpoint`; raises `CamelidError` on quantised or adapted linears."""
    known_linears(model, ("plain",), "saving")
    parameters = ((name, tensor.detach()) for name, tensor in model.state_dict().items())
    write_checkpoint(
        folder,
        model.spec,
        parameters,
        dtype=dtype,
        special_ids=special_ids,
        provenance=provenance,
        max_shard_bytes=max_shard_bytes,
    )


def write_checkpoint(
    folder: Path,
    spec: ModelSpec,
    parameters: Iterable[tuple[str, Tensor]],
    *,
    stored: Iterable[tuple[str, Tensor]] = (),
    dtype: torch.dtype = torch.float32,
    special_ids: Mapping[str, Any] | None = None,
    extra_config: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Writes config.json, generation_config.json, the weights in `dtype` and camelid.json into an existing
    folder.

    parameters: by our names, consumed one at a time, so that at most one shard is in memory. stored: further
    tensors, as they are on disk. special_ids:
    `bos_token_id`, `eos_token_id` (an id or a list) and `pad_token_id`, for both configs. extra_config:
    further keys of config.json. Integer tensors keep their dtype. Raises `CamelidError` that names a tensor
    whose values are too large for `dtype`. The caller makes the folder atomic
    (`camelid.base.atomic.atomic_folder`) and saves the tokenizer.
    """
    family = family_for(spec)
    ids = {key: value for key, value in (special_ids or {}).items() if value is not None}
    config = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        **family.write(spec),
        "torch_dtype": dtype_name(dtype),
        **ids,
        **(extra_config or {}),
    }
    if spec.encoder_layers:
        # Encoder-decoders start an answer with the padding token, as T5 does.
        ids["decoder_start_token_id"] = config["decoder_start_token_id"] = ids.get("pad_token_id", 0)
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", ids)
    if provenance is not None:
        write_provenance(folder, provenance)
    state = (
        (name, _stored(name, tensor, dtype) if tensor.is_floating_point() else tensor)
        for name, tensor in chain(stored_tensors(family.place, spec, parameters), stored)
    )
    save_tensors(folder, state, max_shard_bytes)


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    stored = tensor.to(dtype)
    if torch.finfo(dtype).max < torch.finfo(tensor.dtype).max:
        lost = tensor.isfinite() & ~stored.isfinite()
        if lost.any():
            raise CamelidError(
                f"tensor {name} holds {float(tensor[lost][0]):g}; the largest number in "
                f"{dtype_name(dtype)} is {torch.finfo(dtype).max:g}: choose a dtype with a wider range"
            )
    return stored


def _share_embedding(folder: Path, tensors: dict[str, Tensor], embedding: str, head: str) -> None:
    # Folders with tied embeddings store one of the two names, some both.
    kept = tensors.pop(head, None)
    if kept is not None and not _equal(tensors.setdefault(embedding, kept), kept):
        raise CamelidError(
            f"{folder}: config.json has tie_word_embeddings, but {embedding} and {head} differ; "
            "set it to false if both were trained"
        )


def _equal(one: Tensor, other: Tensor) -> bool:
    # Compare bytes: not every dtype supports comparison.
    alike = (one.dtype, one.shape) == (other.dtype, other.shape)
    return alike and torch.equal(*(each.flatten().view(torch.uint8) for each in (one, other)))


def _check_tensors(
    folder: Path, shapes: Mapping[str, torch.Size], found: Mapping[str, Tensor], family: Family
) -> None:
    missing = sorted(shapes.keys() - found.keys())
    foreign = sorted(name for name in found.keys() - shapes.keys() if not family.ignored.fullmatch(name))
    misshapen = [
        f"{name} is {list(found[name].shape)}, config.json requires {list(shape)}"
        for name, shape in shapes.items()
        if name in found and found[name].shape != shape
    ]
    whole = [
        f"{name} ({found[name].dtype})"
        for name in shapes
        if name in found and found[name].dtype not in WIDENED
    ]
    parts = [*_listed("missing tensors", missing), *_listed("foreign tensors", foreign)]
    parts += [*_listed("wrong shapes", misshapen), *_listed("not floating-point", whole)]
    if parts:
        raise CamelidError(f"{folder}: the weights do not fit config.json: {'; '.join(parts)}")


def _listed(what: str, names: list[str], shown: int = 5) -> Iterable[str]:
    if names:
        more = f" and {len(names) - shown} more" if len(names) > shown else ""
        yield f"{what}: {', '.join(names[:shown])}{more}"
