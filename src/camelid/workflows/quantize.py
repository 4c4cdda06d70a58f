"""`camelid quantize MODEL OUT`: a checkpoint folder as a smaller one."""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor

from camelid.base.atomic import atomic_folder
from camelid.base.digest import digest_paths
from camelid.base.errors import WrongCall, naming
from camelid.data.read.corpus import Corpus
from camelid.data.read.files import data_files
from camelid.engine.conventions import Convention
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import (
    blank_model,
    read_config,
    read_spec,
    read_tensors,
    weight_files,
)
from camelid.formats.load import load_model, load_tokenizer, special_ids, stored_dtype
from camelid.formats.packed.storage import PARTS, check_quantizable, save_quantized, stored_sizes
from camelid.model.transformer import Transformer
from camelid.quant.calibration import calibration_rows as rows_of_text
from camelid.quant.calibration import check_sizes
from camelid.quant.gptq import check_settings
from camelid.quant.packed import PackedLinear
from camelid.quant.quantize import (
    ALL_LINEARS,
    Calibrated,
    Method,
    check_head,
    choose_groups,
    quantize_head,
    quantize_model,
)
from camelid.quant.round_to_nearest import Bits
from camelid.runs.provenance import Parent, provenance
from camelid.text.tokenizer import Tokenizer
from camelid.train.machine import fastest_dtype
from camelid.workflows.compare import METHODS, Yardstick, compare_methods


@dataclass(frozen=True)
class Making:
    """How one folder is made of another; the flags of `camelid quantize` say what each means."""

    group_size: int | None
    select: tuple[str, ...]
    dtype: Literal["bfloat16", "float16", "float32"]
    calibration: tuple[Path, ...]
    rows: int
    length: int
    seed: int
    gptq: dict[str, Any]
    """act_order, static_groups, true_sequential and damping."""
    head_bits: Literal[8] | None = None


def quantize(
    model: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    bits: Bits = 4,
    group_size: int | None = None,
    select: tuple[str, ...] = ALL_LINEARS,
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16",
    method: Method = "rtn",
    calibration: tuple[Path, ...] = (),
    calibration_rows: int = 128,
    calibration_length: int = 512,
    act_order: bool = True,
    static_groups: bool = True,
    true_sequential: bool = True,
    damping: float = 0.01,
    seed: int = 0,
    head_bits: Literal[8] | None = None,
    compare: tuple[Path, ...] = (),
    compare_bits: tuple[Bits, ...] = (),
    compare_perplexity: Convention = "overlapping",
    compare_task: str | None = None,
    compare_data: Path | None = None,
    compare_limit: int | None = None,
    compare_chat: bool = False,
) -> None:
    """Makes a model small: its linears at 2, 3, 4 or 8 bits, in the public GPTQ layout.

    Args:
        model: a checkpoint folder or a name on the hub
        out: the folder to write; it must not exist, or be empty
        bits: of each weight
        group_size: neighbouring weights that share a scale, -1 for a whole row; by default -1 at 8 bits, and below
            the largest of 64, 32, 16 and 8 that fits the model
        select: shell patterns over linears; `!pattern` leaves some out
        dtype: of all that is not quantised (embedding, output projection, norms, scales)
        method: rtn rounds every weight to the nearest code; gptq and awq look at calibration text and lose less
        calibration: files or folders of text like that which the model is to read
        calibration_rows: stretches of text that are looked at
        calibration_length: tokens of each
        act_order: gptq: columns with large inputs first
        static_groups: gptq: scales from the weights as they are, not as they become; needed with act_order
        true_sequential: gptq: linears of a layer see what the quantised ones before them in the layer make of the text
        damping: gptq: share of the Hessian's mean diagonal that is added to its diagonal
        seed: of the draw of stretches
        head_bits: of the output projection, which a small model spends half of its time on; it is kept in `dtype` unless told otherwise
        compare: files of text that no method has seen: quantise by every method instead, each into a folder inside `out`,
            and say what each keeps of the model, in a table and in report.html
        compare_bits: several numbers of bits to compare at, instead of the one
        compare_perplexity: the windows of that text: overlapping, or as published tables have it, of papers or llama.cpp
        compare_task: also ask the questions of a task, by name or from a file, as `camelid eval --task` does
        compare_data: the rows of a published task
        compare_limit: its first questions alone
        compare_chat: ask them in the model's chat template
    """
    folder, all_bits = resolve(model), compare_bits or (bits,)
    gptq = {
        "act_order": act_order,
        "static_groups": static_groups,
        "true_sequential": true_sequential,
        "damping": damping,
    }
    making = Making(
        group_size, select, dtype, calibration, calibration_rows, calibration_length, seed, gptq, head_bits
    )
    if compare:
        _check_comparison(method, calibration, compare)
        if compare_task is None and (compare_data or compare_limit or compare_chat):
            raise WrongCall(
                "--compare-data, --compare-limit and --compare-chat are of a task: name it with --compare-task"
            )
        data = None if compare_data is None else str(compare_data)
        texts = tuple(map(str, compare))
        yardstick = Yardstick(texts, compare_perplexity, compare_task, data, compare_limit, compare_chat)
        _check_source(folder, making, METHODS, all_bits)
        compare_methods(folder, out, yardstick, all_bits, partial(_make, folder, making))
        return
    settings = (compare_bits, compare_task, compare_data, compare_limit, compare_chat)
    if any(settings) or compare_perplexity != "overlapping":
        raise WrongCall(
            "--compare-... says how models are compared; name the text to compare on with --compare"
        )
    looked_at = {
        "calibration": calibration,
        "calibration_rows": calibration_rows,
        "calibration_length": calibration_length,
    }
    _check_used(method, gptq, looked_at)
    _check_source(folder, making, [method], all_bits)
    _print_sizes(folder, out, _make(folder, making, method, bits, out), dtype)


def _check_comparison(method: Method, calibration: Sequence[Path], compare: Sequence[Path]) -> None:
    if method != "rtn":
        raise WrongCall(f"--compare takes every method; leave out --method {method}")
    if not calibration:
        raise WrongCall("--compare takes gptq and awq too, which need text: name files with --calibration")
    seen = {path.resolve() for path in data_files(calibration)}
    if both := [path for path in data_files(compare) if path.resolve() in seen]:
        raise WrongCall(f"{both[0]} is calibration text too; compare on text that no method has seen")


def _check_used(method: Method, gptq: Mapping[str, Any], looked_at: Mapping[str, Any]) -> None:
    """Raises `WrongCall` on a setting that is not the usual one and that the method does not look at."""
    usual = inspect.signature(quantize).parameters
    changed = {
        name: f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
        for name, value in {**gptq, **looked_at}.items()
        if value != usual[name].default
    }
    for name, flag in changed.items():
        if name in gptq and method != "gptq":
            raise WrongCall(f"{flag} is for --method gptq; {method} has no such setting")
        if method == "rtn":
            raise WrongCall(f"{flag} is for --method gptq and awq; rtn looks at no text")


def _check_source(folder: Path, making: Making, methods: Sequence[Method], all_bits: Sequence[Bits]) -> None:
    """Raises `CamelidError` where the model cannot be made small so, before any of it is read."""
    spec = read_spec(folder)
    check_quantizable(spec)
    if "quantization_config" in read_config(folder):
        raise WrongCall(f"{folder} is quantised already; start from the model that it was made of")
    with naming(folder):
        blank = blank_model(spec, stored_sizes(read_tensors(folder)))
    for bits in all_bits:
        groups = choose_groups(blank, bits, making.group_size, making.select)
        if "gptq" in methods:
            whole = all(blank.get_submodule(path).in_features == group for path, group in groups.items())
            gptq = {name: making.gptq[name] for name in ("act_order", "static_groups", "damping")}
            check_settings(not whole, **gptq)
    if making.head_bits is not None:
        check_head(blank, making.head_bits)
    if making.calibration:
        check_sizes(making.rows, making.length)
        if making.length > spec.context_length:
            raise WrongCall(
                f"--calibration-length is {making.length}; the model's context holds {spec.context_length} tokens"
            )


def _make(folder: Path, making: Making, method: Method, bits: Bits, out: Path) -> Transformer:
    """Writes one folder, whole or not at all, and gives the model in it."""
    with atomic_folder(out) as draft:
        kind: torch.dtype = getattr(torch, making.dtype)
        config, tokenizer = read_config(folder), load_tokenizer(folder)
        calibrated = None
        if method != "rtn":
            tokens = _tokens(method, making, tokenizer)
            computed = fastest_dtype(torch.device("cpu"))
            calibrated = Calibrated(method, tokens, dtype=computed, **making.gptq)
        # Calibrating, weights that are stored in half the size are kept so: the products widen them as they go.
        source = load_model(folder, stored_dtype(config) if calibrated else torch.float32)
        with _counting() as say:
            quantized = quantize_model(source, bits, making.group_size, making.select, kind, calibrated, say)
        if calibrated and calibrated.grown:
            print(
                f"camelid: the damping grew for {len(calibrated.grown)} linears, up to {max(calibrated.grown.values()):g}; "
                "camelid.json names them, and more calibration text may help",
                file=sys.stderr,
            )
        if making.head_bits is not None:
            quantize_head(quantized, making.head_bits, kind)
        ids = special_ids(tokenizer, config)
        data = digest_paths(making.calibration) if calibrated else {}
        made = provenance(parents=[Parent.of(folder)], data=data)
        made["quantized"] = {"method": method, "bits": bits, **_settings(making, calibrated)}
        save_quantized(draft, quantized, dtype=kind, special_ids=ids, provenance=made)
        tokenizer.save(draft)
    return quantized


def _tokens(method: str, making: Making, tokenizer: Tokenizer) -> Tensor:
    if not making.calibration:
        raise WrongCall(f"--method {method} needs text: name files with --calibration")
    texts = (text for text, _ in Corpus(making.calibration))
    return rows_of_text(texts, tokenizer, making.rows, making.length, making.seed)


def _settings(making: Making, calibrated: Calibrated | None) -> dict[str, Any]:
    """What the folder says of how it was quantised, beside the layout's own description in config.json."""
    shown = {"group_size": making.group_size, "select": making.select, "head_bits": making.head_bits}
    if calibrated is None:
        return shown
    rows, length = calibrated.tokens.shape
    shown |= {"calibration_rows": rows, "calibration_length": length, "seed": making.seed}
    return shown | (making.gptq | {"damping_grown": calibrated.grown} if calibrated.method == "gptq" else {})


@contextmanager
def _counting() -> Iterator[Callable[[str], None]]:
    """Says on a terminal how far the layers are, on one line, which ends when they do or something stops them."""
    shown = sys.stderr.isatty()
    try:
        yield lambda text: print(f"\r{text}", end="", file=sys.stderr, flush=True) if shown else None
    finally:
        if shown:
            print(file=sys.stderr)


def _print_sizes(before: Path, after: Path, model: Transformer, dtype: str) -> None:
    packed = [module for module in model.modules() if isinstance(module, PackedLinear)]
    weights = sum(module.in_features * module.out_features for module in packed)
    stored = read_tensors(after)
    small = sum(tensor.nbytes for name, tensor in stored.items() if name.endswith(PARTS))
    old, new = (sum(path.stat().st_size for path in weight_files(folder)) for folder in (before, after))
    print(f"{before}: {old / 1e6:.1f} MB")
    print(f"{after}: {new / 1e6:.1f} MB, {old / new:.2f} times smaller")
    print(
        f"  {len(packed)} linears, {weights:,} weights: {small / 1e6:.1f} MB, {8 * small / weights:.2f} bits a weight"
    )
    print(f"  the rest, in {dtype} (most of it the embedding): {(new - small) / 1e6:.1f} MB")
