"""`camelid export MODEL OUT`: a checkpoint folder in a layout of other tools."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from camelid.atomic import atomic_file
from camelid.errors import naming
from camelid.load import check_tokenizer_fits, load_tokenizer
from camelid.model.checkpoint import stored_parameters
from camelid.model.gguf_writing import Precision, write_gguf
from camelid.model.hub import resolve
from camelid.text.gguf_vocabulary import vocabulary_metadata


def export(
    model: Annotated[str, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    to: Literal["gguf"] = "gguf",
    dtype: Precision = "float16",
) -> None:
    """Writes a model as one GGUF file for llama.cpp: weights, tokenizer, chat template.

    Args:
        model: a checkpoint folder or a name on the hub; of an architecture like LLaMA, GPT-2 or T5
        out: the file to write; it must not exist
        to: the layout
        dtype: of the matrices; vectors and learned positions stay in float32
    """
    folder, out = resolve(model), Path(out)
    spec, parameters = stored_parameters(folder)
    tokenizer = load_tokenizer(folder)
    with naming(folder):
        check_tokenizer_fits(spec, tokenizer)
        metadata = {"general.name": folder.resolve().name, **vocabulary_metadata(tokenizer, spec.vocab_size)}
    with atomic_file(out) as draft, naming(folder):
        architecture = write_gguf(draft, spec, parameters, metadata=metadata, dtype=dtype)
    print(
        f"{folder} -> {out}: {to} of architecture {architecture}, {spec.parameter_count():,} parameters, {dtype}"
    )
