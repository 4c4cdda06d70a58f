"""`camelid import FILE OUT`: a GGUF file as a checkpoint folder that every tool of the field reads."""

from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from camelid.atomic import atomic_folder
from camelid.errors import naming
from camelid.load import check_tokenizer_fits
from camelid.model.checkpoint import write_checkpoint
from camelid.model.gguf import GGUFFile
from camelid.model.gguf_families import read_parameters, read_spec
from camelid.provenance import Parent, digest_file, provenance
from camelid.text.gguf_tokenizer import tokenizer_from_gguf

SHARD_BYTES = 2 * 10**9


def import_model(
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> None:
    """Turns a GGUF file into a model folder: weights, tokenizer, chat template.

    Args:
        file: the .gguf file (llama architecture; F32, F16, BF16, Q8_0 to Q2_K)
        out: the folder to write; it must not exist, or be empty
        dtype: of the weights written; float32 keeps quantised values exactly, the others halve the folder
    """
    source = GGUFFile(file)
    with naming(file):
        spec = read_spec(source)
        tokenizer = tokenizer_from_gguf(source.metadata)
        check_tokenizer_fits(spec, tokenizer)
    stops = sorted(tokenizer.stop_ids)
    special_ids = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": stops if len(stops) > 1 else tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }
    with atomic_folder(out) as folder, naming(file):
        write_checkpoint(
            folder,
            spec,
            read_parameters(source, spec),
            dtype=getattr(torch, dtype),
            special_ids=special_ids,
            provenance=_provenance(source),
            max_shard_bytes=SHARD_BYTES,
        )
        tokenizer.save(folder)
    formats = sorted({tensor.format.name for tensor in source.tensors.values()})
    print(f"{file.name} ({', '.join(formats)}) -> {out}: {spec.parameter_count():,} parameters, {dtype}")


def _provenance(source: GGUFFile) -> dict[str, object]:
    general = {key: value for key, value in source.metadata.items() if key.startswith("general.")}
    said = {key: value for key, value in general.items() if isinstance(value, str | int | float)}
    parent = Parent(source.path.name, digest_file(source.path))
    return {**provenance(parents=[parent]), "gguf": said}
