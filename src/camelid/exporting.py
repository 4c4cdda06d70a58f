"""`camelid export MODEL OUT`: a checkpoint folder in a layout of other tools, tried in those tools before it is handed out."""

from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from camelid.atomic import atomic_file, atomic_folder
from camelid.consumers import HuggingFace, LlamaCpp, Trained, installed
from camelid.errors import CamelidError, WrongCall, naming
from camelid.load import check_tokenizer_fits, load_model, load_tokenizer
from camelid.model import gguf_families
from camelid.model.checkpoint import read_config, save_checkpoint, stored_parameters
from camelid.model.gguf import GGUFFile
from camelid.model.gguf_writing import Precision, write_gguf
from camelid.model.hub import resolve
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.provenance import Parent, provenance
from camelid.quant.quantize import unpack_model
from camelid.text.gguf_vocabulary import vocabulary_metadata
from camelid.verifying import compare

Layout = Literal["hf", "gguf"]
FOLDER_DTYPES = ("float32", "float16", "bfloat16")
TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 2e-2}
"""Of logits, as a share of their spread; llama.cpp rounds activations to the weights' precision, to 8 bits under 4-bit ones."""
QUANTIZED_TOLERANCE = 0.15
CONTEXT = 512
"""Tokens of llama.cpp's cache while it is asked, at most."""


def export(
    model: Annotated[str, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    to: Layout = "gguf",
    dtype: Precision = "float16",
    verify: bool = False,
) -> None:
    """Writes a model in a layout of other tools: weights, tokenizer, chat template.

    Args:
        model: a checkpoint folder or a name on the hub; for gguf of an architecture like LLaMA, GPT-2 or T5
        out: the file (gguf) or folder (hf) to write; it must not exist
        to: gguf for llama.cpp, hf for transformers; a quantised folder becomes an ordinary one
        dtype: of the matrices; q8_0, q4_0 and q4_k are llama.cpp's blocks, for gguf alone
        verify: load what was written in llama.cpp or transformers and compare tokens, template, stops, logits and greedy
            text with the model; a difference is an error, and nothing is written
    """
    folder, out = resolve(model), Path(out)
    if to == "hf" and dtype not in FOLDER_DTYPES:
        raise WrongCall(
            f"--dtype {dtype} is llama.cpp's; a folder for transformers takes {', '.join(FOLDER_DTYPES)}"
        )
    if verify:
        package = {"gguf": "llama_cpp", "hf": "transformers"}[to]
        if not installed(package):
            raise CamelidError(
                f"--verify asks {package.replace('_', '.')}, which is not installed: pip install "
                f"{'llama-cpp-python' if to == 'gguf' else package}"
            )
    said = (_to_folder if to == "hf" else _to_gguf)(folder, out, dtype, verify)
    print(f"{folder} -> {out}: {said[0]}")
    for line in said[1:]:
        print(f"  {line}")


def _to_folder(folder: Path, out: Path, dtype: Precision, verify: bool) -> list[str]:
    model, tokenizer = unpack_model(load_model(folder)), load_tokenizer(folder)
    check_tokenizer_fits(model.spec, tokenizer)
    config = read_config(folder)
    ids = {key: config.get(key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    made, lines = provenance(parents=[Parent.of(folder)]), []
    with atomic_folder(out) as draft:
        kind = getattr(torch, dtype)
        save_checkpoint(draft, model, dtype=kind, special_ids=ids, provenance=made)
        tokenizer.save(draft)
        if verify:
            reader = HuggingFace(draft, encoder=model.encoder is not None)
            found = compare(Trained(model, tokenizer), reader, None, TOLERANCE[dtype])
            found.raise_on_difference(reader.name)
            lines = [f"in {reader.name} as trained:", *found.equal]
    return [f"hf of {model.spec.parameter_count():,} parameters, {dtype}", *lines]


def _to_gguf(folder: Path, out: Path, dtype: Precision, verify: bool) -> list[str]:
    spec, parameters = stored_parameters(folder)
    if verify and spec.encoder_layers:
        raise CamelidError(
            "llama-cpp-python answers for decoders alone; export this encoder-decoder without --verify"
        )
    tokenizer = load_tokenizer(folder)
    with naming(folder):
        check_tokenizer_fits(spec, tokenizer)
        metadata = {"general.name": folder.resolve().name, **vocabulary_metadata(tokenizer, spec.vocab_size)}
    lines: list[str] = []
    with atomic_file(out) as draft, naming(folder):
        architecture = write_gguf(draft, spec, parameters, metadata=metadata, dtype=dtype)
        if verify:
            reader = LlamaCpp(draft, min(CONTEXT, spec.context_length))
            stored = Trained(_read_back(draft, spec), tokenizer) if dtype not in FOLDER_DTYPES else None
            tolerance = TOLERANCE.get(dtype, QUANTIZED_TOLERANCE)
            found = compare(Trained(load_model(folder), tokenizer), reader, stored, tolerance)
            found.raise_on_difference(reader.name)
            lines = [f"in {reader.name} as trained:", *found.equal]
    return [f"gguf of architecture {architecture}, {spec.parameter_count():,} parameters, {dtype}", *lines]


def _read_back(file: Path, spec: ModelSpec) -> Transformer:
    """The artefact's own weights, rounding included."""
    with torch.device("meta"):
        model = Transformer(spec)
    state = dict(gguf_families.read_parameters(GGUFFile(file), spec))
    model.load_state_dict(state, assign=True)
    return model.eval()
