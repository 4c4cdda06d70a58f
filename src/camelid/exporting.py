"""`camelid export MODEL OUT`: a checkpoint folder in a layout of other tools, tried in those tools before it is handed out."""

from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from camelid.atomic import atomic_file, atomic_folder
from camelid.consumers import HuggingFace, LlamaCpp, Trained, installed
from camelid.errors import CamelidError, WrongCall, naming
from camelid.json_table import read_table
from camelid.load import check_tokenizer_fits, load_model, load_tokenizer, special_ids
from camelid.model import gguf_families
from camelid.model.checkpoint import read_config, save_checkpoint, stored_parameters
from camelid.model.gguf import GGUFFile
from camelid.model.gguf_writing import Precision, write_gguf
from camelid.model.hub import resolve
from camelid.model.spec import ModelSpec
from camelid.model.tensor_files import dtype_name
from camelid.model.transformer import Transformer
from camelid.provenance import Parent, provenance
from camelid.quant.layouts import LAYOUTS
from camelid.quant.quantize import unpack_model
from camelid.quant.storage import load_quantized, round_the_rest, save_quantized
from camelid.text.gguf_vocabulary import vocabulary_metadata
from camelid.verifying import compare, compare_exactly

Layout = Literal["hf", "gguf", "gptq", "awq"]
FOLDER_DTYPES = ("float32", "float16", "bfloat16")
READERS = {
    "gguf": ("llama_cpp",),
    "hf": ("transformers",),
    "gptq": ("transformers", "accelerate", "optimum", "gptqmodel"),
    "awq": ("transformers", "accelerate", "gptqmodel"),
}
"""The packages that read each layout."""
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
        model: a checkpoint folder or a name on the hub; for gguf of an architecture like LLaMA, GPT-2 or T5, for gptq and
            awq a quantised one
        out: the file (gguf) or folder to write; it must not exist
        to: gguf for llama.cpp, hf for transformers; a quantised folder becomes an ordinary one. gptq and awq are quantised
            folders for vLLM and transformers, with the codes that the model has
        dtype: of the matrices, in gptq and awq of all but the codes; q8_0, q4_0 and q4_k are llama.cpp's blocks, for gguf
            alone; awq takes float16 alone
        verify: load what was written in llama.cpp or transformers and compare tokens, template, stops, logits and greedy
            text with the model; a difference is an error, and nothing is written
    """
    folder, out = resolve(model), Path(out)
    allowed: tuple[str, ...] = FOLDER_DTYPES
    if to in LAYOUTS:
        allowed = tuple(dtype_name(kind) for kind in LAYOUTS[to].dtypes)
    if to != "gguf" and dtype not in allowed:
        whose = "is llama.cpp's" if dtype not in FOLDER_DTYPES else "is not for this layout"
        raise WrongCall(f"--dtype {dtype} {whose}; a folder in {to} takes {', '.join(allowed)}")
    missing = [package for package in READERS[to] if not installed(package)] if verify else []
    if missing:
        packages = ["llama-cpp-python" if package == "llama_cpp" else package for package in missing]
        raise CamelidError(
            f"--verify asks the real reader, and of what that needs {', '.join(missing)} is not installed: "
            f"pip install {' '.join(packages)}"
        )
    if to == "gguf":
        said = _to_gguf(folder, out, dtype, verify)
    elif to == "hf":
        said = _to_folder(folder, out, dtype, verify)
    else:
        said = _to_quantised(folder, out, to, dtype, verify)
    print(f"{folder} -> {out}: {said[0]}")
    for line in said[1:]:
        print(f"  {line}")


def _to_folder(folder: Path, out: Path, dtype: Precision, verify: bool) -> list[str]:
    model, tokenizer = unpack_model(load_model(folder)), load_tokenizer(folder)
    check_tokenizer_fits(model.spec, tokenizer)
    made, lines = provenance(parents=[Parent.of(folder)]), []
    with atomic_folder(out) as draft:
        kind = getattr(torch, dtype)
        ids = special_ids(tokenizer, read_config(folder))
        save_checkpoint(draft, model, dtype=kind, special_ids=ids, provenance=made)
        tokenizer.save(draft)
        if verify:
            reader = HuggingFace(draft, encoder=model.encoder is not None)
            found = compare(Trained(model, tokenizer), reader, None, TOLERANCE[dtype])
            found.raise_on_difference(reader.name)
            lines = [f"in {reader.name} as trained:", *found.equal]
    return [f"hf of {model.spec.parameter_count():,} parameters, {dtype}", *lines]


def _to_quantised(
    folder: Path, out: Path, to: Literal["gptq", "awq"], dtype: Precision, verify: bool
) -> list[str]:
    """Codes, scales and zero points as they are, the rest in `dtype`; always read back and held to that bit for bit."""
    if "quantization_config" not in read_config(folder):
        raise CamelidError(
            f"{folder} is in full precision, and {to} folders hold codes: choose how they are made with camelid quantize "
            f"(--bits 4, --method rtn, gptq or awq), and export the folder that it writes"
        )
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    check_tokenizer_fits(model.spec, tokenizer)
    made, kind = provenance(parents=[Parent.of(folder)]), getattr(torch, dtype)
    if method := read_table(folder / "camelid.json", optional=True).get("quantized"):
        made["quantized"] = method
    with atomic_folder(out) as draft, naming(folder):
        changed = round_the_rest(model, kind)
        ids = special_ids(tokenizer, read_config(folder))
        save_quantized(draft, model, dtype=kind, special_ids=ids, provenance=made, layout=to)
        tokenizer.save(draft)
        trained = Trained(model, tokenizer)
        found = compare_exactly(trained, Trained(load_quantized(draft), load_tokenizer(draft)))
        found.raise_on_difference("what was read back")
        lines = ["read back:", *found.equal]
        if verify:
            reader = HuggingFace(draft)
            found = compare(trained, reader, None, TOLERANCE["float16"])
            found.raise_on_difference(reader.name)
            lines += [f"in {reader.name} as trained:", *found.equal]
    rounded = f"; {changed:,} values that are not quantised were rounded to {dtype}" if changed else ""
    return [f"{to} of {model.spec.parameter_count():,} parameters{rounded}", *lines]


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
