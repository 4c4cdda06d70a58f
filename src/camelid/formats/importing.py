"""`camelid import FILE OUT`: converts a model in another layout to a checkpoint folder.

Each reader returns a `Found`, which `import_model` writes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from camelid.base.atomic import atomic_folder
from camelid.base.digest import digest_path
from camelid.base.errors import CamelidError, naming
from camelid.formats import meta_llama
from camelid.formats.gguf import families as gguf_families
from camelid.formats.gguf.file import GGUFFile
from camelid.formats.gguf.tokenizer import tokenizer_from_gguf
from camelid.formats.hugging_face.checkpoint import blank_model, write_checkpoint
from camelid.formats.llama2c import Llama2cFile
from camelid.formats.load import check_tokenizer_fits, special_ids
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.runs.provenance import Parent, provenance
from camelid.text.tokenizer import Tokenizer, load_tokenizer, load_vocabulary_file
from camelid.text.vocabulary_files import has_vocabulary

SHARD_BYTES = 2 * 10**9


class Found(NamedTuple):
    """The result of a reader; weights are loaded only while `parameters` is iterated."""

    spec: ModelSpec
    tokenizer: Tokenizer
    parameters: Iterator[tuple[str, Tensor]]
    form: str
    """The number format, in words."""
    said: dict[str, Any]
    """The file's own metadata, for camelid.json."""


def import_model(
    file: Path,
    out: Path,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    tokenizer: Path | None = None,
) -> None:
    """Converts a GGUF file, Meta's LLaMA folder or a llama2.c checkpoint to a model folder.

    file: a .gguf file, a folder of consolidated.*.pth, or llama2.c's .bin; out: the folder, which must not
    exist or be empty; tokenizer: its folder or file, if it is neither in the file nor next to it. Raises
    `CamelidError` if the file is damaged or the model is unsupported.
    """
    file, given = Path(file), None if tokenizer is None else _given_tokenizer(tokenizer)
    found = _read(file, given)
    with naming(file):
        check_tokenizer_fits(found.spec, found.tokenizer)
    with atomic_folder(out) as folder, naming(file):
        write_checkpoint(
            folder,
            found.spec,
            found.parameters,
            dtype=getattr(torch, dtype),
            special_ids=special_ids(found.tokenizer),
            provenance={**provenance(parents=[Parent(file.name, digest_path(file))]), **found.said},
            max_shard_bytes=SHARD_BYTES,
        )
        found.tokenizer.save(folder)
    print(f"{file.name} ({found.form}) -> {out}: {found.spec.parameter_count():,} parameters, {dtype}")


def _read(file: Path, given: Tokenizer | None) -> Found:
    if meta_llama.is_meta_folder(file):
        return _meta(file, given)
    if file.is_dir():
        raise CamelidError(f"{file} is a folder without {meta_llama.SHARDS}; give a file or Meta's folder")
    return (_llama2c if file.suffix == ".bin" else _gguf)(file, given)


def _gguf(file: Path, given: Tokenizer | None) -> Found:
    source = GGUFFile(file)
    with naming(file):
        spec = gguf_families.read_spec(source)
        tokenizer = given or tokenizer_from_gguf(source.metadata)
    general = {key: value for key, value in source.metadata.items() if key.startswith("general.")}
    said = {key: value for key, value in general.items() if isinstance(value, str | int | float)}
    formats = ", ".join(sorted({tensor.format.name for tensor in source.tensors.values()}))
    return Found(spec, tokenizer, gguf_families.read_parameters(source, spec), formats, {"gguf": said})


def read_gguf(file: Path) -> tuple[Transformer, Tokenizer, str]:
    """The model of a GGUF file in float32, its tokenizer, and the formats of its tensors."""
    found = _gguf(file, None)
    with naming(file):
        check_tokenizer_fits(found.spec, found.tokenizer)
        model = blank_model(found.spec)
        model.load_state_dict(dict(found.parameters), assign=True)
    return model.eval(), found.tokenizer, found.form


def _meta(folder: Path, given: Tokenizer | None) -> Found:
    source = meta_llama.MetaFolder(folder)
    spec = meta_llama.read_spec(source)
    # LLaMA 1 was published with one tokenizer for all sizes, in the parent folder.
    beside = next((place for place in (folder, folder.resolve().parent) if has_vocabulary(place)), None)
    if given is None and beside is None:
        raise CamelidError(f"{folder} and its parent have no tokenizer.model; give it with --tokenizer")
    tokenizer = given or load_tokenizer(beside or folder)
    count = len(source.parts)
    form = f"{count} part{'s' * (count > 1)} of Meta's"
    return Found(spec, tokenizer, meta_llama.read_parameters(source, spec), form, {"params": source.params})


def _llama2c(file: Path, given: Tokenizer | None) -> Found:
    source = Llama2cFile(file)
    if given is None:
        names = (f"tok{source.spec.vocab_size}.bin", "tokenizer.bin")
        beside = next((file.parent / name for name in names if (file.parent / name).is_file()), None)
        if beside is None:
            raise CamelidError(
                f"{file} has neither {names[0]} nor {names[1]} next to it; give one with --tokenizer"
            )
        given = load_vocabulary_file(beside)
    return Found(source.spec, given, source.parameters(), "llama2.c", {})


def _given_tokenizer(path: Path) -> Tokenizer:
    return load_tokenizer(path) if path.is_dir() else load_vocabulary_file(path)
