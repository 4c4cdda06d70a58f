"""`camelid export MODEL OUT`: converts a checkpoint folder to other tools' layouts and verifies it there."""

from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import torch

from camelid.base.atomic import atomic_file, atomic_folder
from camelid.base.errors import CamelidError, WrongCall, naming
from camelid.base.json import read_table
from camelid.formats.gguf import families as gguf_families
from camelid.formats.gguf.adapter import write_adapter
from camelid.formats.gguf.file import GGUFFile
from camelid.formats.gguf.t5 import START
from camelid.formats.gguf.vocabulary import vocabulary_metadata, vocabulary_notes
from camelid.formats.gguf.writing import Precision, differences, write_gguf
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import (
    blank_model,
    read_config,
    read_spec,
    save_checkpoint,
    stored_parameters,
)
from camelid.formats.hugging_face.families import why_own
from camelid.formats.hugging_face.peft_folder import base_of, is_adapter, load_adapter
from camelid.formats.hugging_face.tensor_files import dtype_name
from camelid.formats.load import check_tokenizer_fits, load_model, load_tokenizer, special_ids
from camelid.formats.packed.layouts import LAYOUTS
from camelid.formats.packed.storage import load_quantized, round_the_rest, save_quantized
from camelid.formats.verify.comparison import Verification, compare_behaviour, compare_exactly
from camelid.formats.verify.readers import HuggingFace, LlamaCpp, Trained, installed
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.quant.quantize import unpack_model
from camelid.runs.provenance import Parent, provenance
from camelid.text.markers import markers_entry
from camelid.text.tokenizer import Tokenizer

Layout = Literal["hf", "gguf", "gptq", "awq"]
FOLDER_DTYPES = ("float32", "float16", "bfloat16")
READERS = {
    "gguf": ("llama_cpp",),
    "hf": ("transformers",),
    "gptq": ("transformers", "accelerate", "optimum", "gptqmodel"),
    "awq": ("transformers", "accelerate", "gptqmodel"),
}
"""The packages that verify each layout."""
TOLERANCE = {"float32": 1e-3, "float16": 2e-2}
"""For logits, as a fraction of their spread; llama.cpp rounds activations too, with blocks to 8 bits."""
ROUGH_TOLERANCE = 0.15
"""For bfloat16 and blocks; the weights themselves are checked elsewhere, bit for bit."""
CONTEXT = 512
"""Maximum number of tokens in llama.cpp's cache during verification."""


def export(
    model: str | Path,
    out: Path,
    to: Layout = "gguf",
    dtype: Precision = "float16",
    verify: bool = False,
    base: str | None = None,
) -> None:
    """Writes a model in another tool's layout: weights, tokenizer, chat template; or an adapter as GGUF.

    model: a checkpoint folder, a name on the hub, or an adapter's folder, whose base is the one that it names
    or `base`; out: the file (gguf) or folder, which must not exist;
    dtype: of the matrices, in gptq and awq of all but the codes; verify: load the result in its real reader;
    raise `CamelidError`, leaving nothing behind, if tokens, template, stops, logits or greedy text differ.
    """
    folder, out = resolve(model), Path(out)
    if is_adapter(folder) and not (folder / "config.json").is_file():
        print(_adapter_to_gguf(folder, out, to, dtype, verify, base))
        return
    if base is not None:
        raise WrongCall(f"--base is for adapters; {folder} is a whole model")
    allowed: tuple[str, ...] = FOLDER_DTYPES
    if to in LAYOUTS:
        allowed = tuple(dtype_name(kind) for kind in LAYOUTS[to].dtypes)
    if to != "gguf" and dtype not in allowed:
        whose = "is for gguf only" if dtype not in FOLDER_DTYPES else "is not for this layout"
        raise WrongCall(f"--dtype {dtype} {whose}; a folder in {to} takes {', '.join(allowed)}")
    missing = [package for package in READERS[to] if not installed(package)] if verify else []
    if missing:
        packages = ["llama-cpp-python" if package == "llama_cpp" else package for package in missing]
        raise CamelidError(
            f"--verify needs {', '.join(missing)}, which is not installed: pip install {' '.join(packages)}"
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


def _adapter_to_gguf(
    folder: Path, out: Path, to: Layout, dtype: Precision, verify: bool, base: str | None
) -> str:
    if to != "gguf" or dtype not in ("float32", "float16") or verify:
        raise WrongCall(
            f"{folder} is an adapter, which is exported to gguf in float32 or float16, without --verify; for "
            "other formats merge it first (camelid merge)"
        )
    place = resolve(base if base is not None else base_of(folder))
    with naming(folder):
        model = load_adapter(blank_model(read_spec(place)), folder, place)
    with atomic_file(out) as draft:
        count = write_adapter(draft, model, folder.resolve().name, dtype)
    return f"{folder} -> {out}: gguf adapter of {count} tensors, {dtype}, for {place}"


def _to_folder(folder: Path, out: Path, dtype: Precision, verify: bool) -> list[str]:
    model, tokenizer = unpack_model(load_model(folder)), load_tokenizer(folder)
    check_tokenizer_fits(model.spec, tokenizer)
    if reason := why_own(model.spec):
        raise CamelidError(f"{folder}: {reason}; only camelid can load this folder")
    made, lines = provenance(parents=[Parent.of(folder)]) | markers_entry(folder), []
    with atomic_folder(out) as draft:
        kind = getattr(torch, dtype)
        ids = special_ids(tokenizer, read_config(folder))
        save_checkpoint(draft, model, dtype=kind, special_ids=ids, provenance=made)
        tokenizer.save(draft)
        if verify:
            reader = HuggingFace(draft, encoder=model.encoder is not None)
            trained, again = Trained(model, tokenizer), Trained(load_model(draft), load_tokenizer(draft))
            lines = _held(compare_exactly(trained, again, kind), "read back")
            stored = None if kind == torch.float32 else again
            found = compare_behaviour(trained, reader, stored, TOLERANCE["float32"])
            lines += _held(found, f"in {reader.name} as trained", reader.name)
    return [f"hf of {model.spec.parameter_count():,} parameters, {dtype}", *lines]


def _to_quantised(
    folder: Path, out: Path, to: Literal["gptq", "awq"], dtype: Precision, verify: bool
) -> list[str]:
    """Codes, scales and zero points unchanged, the rest in `dtype`; read back and compared bit for bit."""
    if "quantization_config" not in read_config(folder):
        raise CamelidError(
            f"{folder} is in full precision, but {to} folders hold quantised weights: first run "
            "camelid quantize "
            f"(--bits 4, --method rtn, gptq or awq), then export its result"
        )
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    check_tokenizer_fits(model.spec, tokenizer)
    made = provenance(parents=[Parent.of(folder)]) | markers_entry(folder)
    kind = getattr(torch, dtype)
    if method := read_table(folder / "camelid.json", optional=True).get("quantized"):
        made["quantized"] = method
    with atomic_folder(out) as draft, naming(folder):
        changed = round_the_rest(model, kind)
        ids = special_ids(tokenizer, read_config(folder))
        save_quantized(draft, model, dtype=kind, special_ids=ids, provenance=made, layout=to)
        tokenizer.save(draft)
        trained = Trained(model, tokenizer)
        again = Trained(load_quantized(draft), load_tokenizer(draft))
        lines = _held(compare_exactly(trained, again), "read back")
        if verify:
            reader = HuggingFace(draft)
            found = compare_behaviour(trained, reader, None, TOLERANCE["float16"])
            lines += _held(found, f"in {reader.name} as trained", reader.name)
    rounded = f"; {changed:,} unquantised values were rounded to {dtype}" if changed else ""
    return [f"{to} of {model.spec.parameter_count():,} parameters{rounded}", *lines]


def _to_gguf(folder: Path, out: Path, dtype: Precision, verify: bool) -> list[str]:
    spec, parameters = stored_parameters(folder)
    if verify and spec.encoder_layers:
        raise CamelidError(
            "llama-cpp-python supports only decoders; export this encoder-decoder without --verify"
        )
    tokenizer = load_tokenizer(folder)
    with naming(folder):
        check_tokenizer_fits(spec, tokenizer)
        metadata, notes = _metadata(folder, tokenizer, spec)
    lines: list[str] = []
    with atomic_file(out) as draft, naming(folder):
        architecture = write_gguf(draft, spec, parameters, metadata=metadata, dtype=dtype)
        if verify:
            wrong = differences(draft, spec, parameters, metadata=metadata, dtype=dtype)
            found = Verification()
            shown = "\n  ".join([f"{len(wrong)} differ", *wrong[:9]])
            found.check("every key, and every weight bit for bit", not wrong, shown)
            lines = _held(found, "read back")
            trained = Trained(load_model(folder), tokenizer)
            stored = None if dtype == "float32" else Trained(_read_back(draft, spec), tokenizer)
            with closing(LlamaCpp(draft, min(CONTEXT, spec.context_length))) as reader:
                found = compare_behaviour(trained, reader, stored, TOLERANCE.get(dtype, ROUGH_TOLERANCE))
            lines += _held(found, f"in {reader.name} as trained", reader.name)
    said = f"gguf of architecture {architecture}, {spec.parameter_count():,} parameters, {dtype}"
    return [said, *lines, *(f"note: {note}" for note in notes)]


def _metadata(folder: Path, tokenizer: Tokenizer, spec: ModelSpec) -> tuple[dict[str, Any], list[str]]:
    """The file's keys besides the model's settings, and notes on what GGUF cannot express."""
    recipe = read_table(folder / "camelid.json", optional=True).get("recipe")
    talks = isinstance(recipe, dict) and (recipe.get("stage"), recipe.get("task")) == ("tune", "chat")
    named = {
        "general.name": folder.resolve().name.encode(errors="replace").decode(),
        **vocabulary_metadata(tokenizer, spec.vocab_size, talks=talks),
    }
    if spec.encoder_layers:
        config = read_config(folder)
        named[START] = config.get("decoder_start_token_id") or config.get("pad_token_id") or 0
        return named, []  # an encoder-decoder takes texts, not conversations
    return named, vocabulary_notes(tokenizer, talks=talks)


def _held(found: Verification, where: str, reader: str = "what was read back") -> list[str]:
    """The passed checks as lines; raises `CamelidError` if any failed."""
    found.raise_on_difference(reader)
    return [f"{where}:", *found.equal]


def _read_back(file: Path, spec: ModelSpec) -> Transformer:
    """The artefact's weights, rounding included."""
    with torch.device("meta"):
        model = Transformer(gguf_families.plain(spec))
    state = dict(gguf_families.read_parameters(GGUFFile(file), spec))
    model.load_state_dict(state, assign=True)
    return model.eval()
