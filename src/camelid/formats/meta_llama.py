"""Meta's LLaMA folders: `params.json`, and `consolidated.NN.pth` for each part of a model-parallel run.

The .pth files are pickles; torch's restricted reader loads only tensors and plain containers and runs no
code.
"""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from camelid.base.errors import CamelidError, naming
from camelid.base.json import read_table
from camelid.formats.hugging_face.checkpoint import blank_model
from camelid.formats.hugging_face.families.config import Config, real, whole
from camelid.formats.names import LLAMA_NAMES, Naming
from camelid.model.spec import FeedForward, Llama3Scaling, ModelSpec, Norm, Rotary

PARAMS, SHARDS = "params.json", "consolidated.*.pth"
NAMING = Naming(LLAMA_NAMES, "meta", pairs=True)
EMBEDDING, OUTPUT = NAMING.name("embed_tokens.weight"), NAMING.name("lm_head.weight")
IGNORED = "rope.freqs"
SPLIT_INPUTS = (".wo.weight", ".w2.weight")
"""Matrices split along the inputs; all others are split along the outputs."""


def is_meta_folder(path: Path) -> bool:
    """Whether a folder has Meta's layout."""
    return path.is_dir() and (any(path.glob(SHARDS)) or (path / PARAMS).is_file())


class MetaFolder:
    """The tensors of a folder in Meta's layout, merged from its parts on access."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.params = read_table(self.folder / PARAMS)
        paths = sorted(self.folder.glob(SHARDS))
        if not paths:
            raise CamelidError(f"{folder} holds no {SHARDS}; download the weights next to {PARAMS}")
        wanted = [f"consolidated.{number:02d}.pth" for number in range(len(paths))]
        if missing := sorted({*wanted} - {path.name for path in paths}):
            raise CamelidError(f"{folder} lacks {missing[0]}; all parts (at least {len(paths)}) are needed")
        self.parts = [_read_part(path) for path in paths]
        for path, part in zip(paths, self.parts, strict=True):
            if different := sorted(part.keys() ^ self.parts[0].keys()):
                raise CamelidError(
                    f"{path}: {different[0]!r} is not in every part; the parts belong to different models"
                )

    def tensor(self, name: str) -> Tensor:
        """One tensor, whole."""
        if name not in self.parts[0]:
            raise CamelidError(f"{self.folder}: tensor {name!r} is missing; download the weights again")
        pieces = [part[name] for part in self.parts]
        if len(pieces) == 1 or pieces[0].ndim == 1:
            return pieces[0]
        columns = name.endswith(SPLIT_INPUTS)
        if name == EMBEDDING:
            # LLaMA 1 and 2 split the embedding by its width, Llama 3 by its vocabulary.
            columns = pieces[0].shape[1] != self.width
        try:
            return torch.cat(pieces, 1 if columns else 0)
        except RuntimeError as error:
            raise CamelidError(
                f"{self.folder}: the parts of {name!r} do not fit: {[list(p.shape) for p in pieces]}"
            ) from error

    @property
    def width(self) -> int:
        """The model's width."""
        return whole(self.params, "dim")


def read_spec(source: MetaFolder) -> ModelSpec:
    """The model that the folder holds; sizes missing in `params.json` come from the tensors."""
    with naming(source.folder / PARAMS):
        params = source.params
        width, heads = source.width, whole(params, "n_heads")
        if width % heads:
            raise CamelidError(f"dim {width} is not a multiple of n_heads {heads}")
        return ModelSpec(
            vocab_size=source.tensor(EMBEDDING).shape[0],
            hidden_size=width,
            num_layers=whole(params, "n_layers"),
            num_heads=heads,
            num_kv_heads=whole(params, "n_kv_heads", heads),
            head_dim=width // heads,
            context_length=_context_length(params),
            feed_forward=FeedForward(source.tensor(NAMING.name("layers.0.mlp.gate_proj.weight")).shape[0]),
            positions=Rotary(real(params, "rope_theta", 10000.0), _scaling(params)),
            norm=Norm(eps=real(params, "norm_eps", 1e-5)),
            tie_embeddings=_is_tied(source),
        )


def read_parameters(source: MetaFolder, spec: ModelSpec) -> Iterator[tuple[str, Tensor]]:
    """Our parameters by name, one at a time; raises if the folder's tensors do not match exactly."""
    with naming(source.folder):
        model = blank_model(spec, [tensor.numel() for part in source.parts for tensor in part.values()])
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        places = {name: NAMING.place(spec, name) for name in shapes}
        known = {*(place.name for place in places.values()), IGNORED, OUTPUT}
        if foreign := sorted(source.parts[0].keys() - known):
            raise CamelidError(
                f"{len(foreign)} tensors do not belong to a LLaMA; the first is {foreign[0]!r}"
            )
    for name, place in places.items():
        tensor = source.tensor(place.name)
        if tuple(tensor.shape) != shapes[name]:
            raise CamelidError(
                f"{source.folder}: tensor {place.name!r} is {list(tensor.shape)}; {PARAMS} requires "
                f"{list(shapes[name])}"
            )
        yield name, place.take(tensor)


def _is_tied(source: MetaFolder) -> bool:
    """Whether the output matrix is missing or equals the embedding (Llama 3.2's small models)."""
    if OUTPUT not in source.parts[0]:
        return True
    output, embedding = source.tensor(OUTPUT), source.tensor(EMBEDDING)
    return output.shape == embedding.shape and torch.equal(output, embedding)


def _context_length(params: Config) -> int:
    """Context length of the published model with these settings; `params.json` lacks it."""
    theta = real(params, "rope_theta", 10000.0)
    if "max_seq_len" in params:
        return whole(params, "max_seq_len")
    if params.get("use_scaled_rope"):
        return 131072  # Llama 3.1 and later
    if theta == 500000:
        return 8192  # Llama 3
    if theta == 1000000:
        return 16384  # Code Llama
    first = real(params, "norm_eps", 1e-5) < 1e-5 or (
        whole(params, "n_layers") == 80 and "n_kv_heads" not in params
    )
    return 2048 if first else 4096


def _scaling(params: Config) -> Llama3Scaling | None:
    if not params.get("use_scaled_rope"):
        return None
    # The factor of Llama 3.2's small models is only in Hugging Face's config.json.
    small = whole(params, "dim") <= 3072
    return Llama3Scaling(real(params, "rope_scaling_factor", 32.0 if small else 8.0), 1.0, 4.0, 8192)


def _read_part(path: Path) -> dict[str, Tensor]:
    try:
        part: Any = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CamelidError(
            f"{path} holds more than tensors, or is damaged; pickles can run code, so only tensors "
            "are read: "
            "download it again from Meta, or use the model in safetensors"
        ) from error
    except Exception as error:  # torch's reader follows a damaged pickle into errors of all kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CamelidError(f"{path} cannot be read ({reason}); download it again") from error
    named = isinstance(part, dict) and all(isinstance(name, str) for name in part)
    if not named or not all(isinstance(value, Tensor) for value in part.values()):
        raise CamelidError(f"{path} is not a dictionary of tensors by name; download it again")
    for name, tensor in part.items():
        if not tensor.is_floating_point() or tensor.layout != torch.strided or not tensor.ndim:
            raise CamelidError(f"{path}: {name!r} is not a floating-point vector or matrix")
        if not tensor.is_cpu or not tensor.is_contiguous():
            raise CamelidError(f"{path}: {name!r} is not contiguous in the file; download it again")
    # Two names may share one stored matrix; anything beyond that would be sizes without data.
    if sum(tensor.nbytes for tensor in part.values()) > 2 * path.stat().st_size:
        raise CamelidError(f"{path} describes more numbers than it holds; download it again")
    tensors: dict[str, Tensor] = part
    return tensors
