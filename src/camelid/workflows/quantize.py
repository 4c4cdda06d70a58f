"""`camelid quantize`: writes a quantised copy of a checkpoint folder."""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from camelid.base.atomic import atomic_folder
from camelid.base.digest import digest_paths
from camelid.base.errors import WrongCall, naming
from camelid.data.read.corpus import Corpus
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import (
    blank_model,
    read_config,
    read_spec,
    read_tensors,
    weight_bytes,
)
from camelid.formats.load import load_model, load_tokenizer, special_ids, stored_dtype
from camelid.formats.packed.storage import PARTS, check_quantizable, save_quantized, stored_sizes
from camelid.model.transformer import Transformer
from camelid.quant.calibration import calibration_rows as rows_of_text
from camelid.quant.calibration import check_sizes
from camelid.quant.choices import Bits, Method
from camelid.quant.gptq import check_settings
from camelid.quant.packed import PackedLinear
from camelid.quant.quantize import Calibrated, check_head, choose_groups, quantize_head, quantize_model
from camelid.recipes.quantize import Quantization, QuantizeRecipe
from camelid.recipes.settings import flag
from camelid.runs.provenance import Parent, provenance
from camelid.text.markers import markers_entry
from camelid.text.tokenizer import Tokenizer
from camelid.train.machine import fastest_dtype

logger = logging.getLogger(__name__)

GPTQ_SETTINGS = ("act_order", "static_groups", "true_sequential", "damping")
TEXT_SETTINGS = ("calibration", "calibration_rows", "calibration_length")


def quantize(recipe: QuantizeRecipe) -> None:
    """Quantises a model's linears to 2, 3, 4 or 8 bits, in the public GPTQ layout; prints the sizes.

    Raises `CamelidError` or `WrongCall`, before any weight is read, if the model cannot be quantised as
    asked.
    """
    folder = resolve(recipe.model)
    check_used(recipe, [recipe.method])
    check_source(folder, recipe, [recipe.method], [recipe.bits])
    model = quantize_folder(folder, recipe, recipe.method, recipe.bits, recipe.out)
    _print_sizes(folder, recipe.out, model, recipe.dtype)


def check_used(making: Quantization, methods: Sequence[Method], option: str = "--method ") -> None:
    """Raises `WrongCall` on a setting that differs from its default and that none of the methods uses.

    option: what names a method on the command line, for the message.
    """
    lacking = f"{' and '.join(methods)} {'has' if len(methods) == 1 else 'have'} no such setting"
    for name in (*GPTQ_SETTINGS, *TEXT_SETTINGS):
        value = getattr(making, name)
        if value == Quantization.model_fields[name].default:
            continue
        given = flag(f"no_{name}" if value is False else name)
        if name in GPTQ_SETTINGS and "gptq" not in methods:
            raise WrongCall(f"{given} is for {option}gptq; {lacking}")
        if set(methods) == {"rtn"}:
            raise WrongCall(f"{given} is for {option}gptq and awq; rtn uses no calibration text")


def check_source(
    folder: Path, making: Quantization, methods: Sequence[Method], all_bits: Sequence[Bits]
) -> None:
    """Raises `CamelidError` if the model cannot be quantised with these settings, before any weight is
    read."""
    spec = read_spec(folder)
    check_quantizable(spec)
    if "quantization_config" in read_config(folder):
        raise WrongCall(f"{folder} is already quantised; start from the model that it was made from")
    with naming(folder):
        blank = blank_model(spec, stored_sizes(read_tensors(folder)))
    for bits in all_bits:
        groups = choose_groups(blank, bits, making.group_size, making.select)
        if "gptq" in methods:
            whole = all(blank.get_submodule(path).in_features == group for path, group in groups.items())
            check_settings(not whole, making.act_order, making.static_groups, making.damping)
    if making.head_bits is not None:
        check_head(blank, making.head_bits)
    if making.calibration:
        check_sizes(making.calibration_rows, making.calibration_length)
        if making.calibration_length > spec.context_length:
            raise WrongCall(
                f"--calibration-length is {making.calibration_length}; "
                f"the model's context holds {spec.context_length} tokens"
            )


def quantize_folder(folder: Path, making: Quantization, method: Method, bits: Bits, out: Path) -> Transformer:
    """Writes one quantised folder, atomically, and returns its model."""
    with atomic_folder(out) as draft:
        kind: torch.dtype = getattr(torch, making.dtype)
        config, tokenizer = read_config(folder), load_tokenizer(folder)
        calibrated = None
        if method != "rtn":
            tokens = _tokens(method, making, tokenizer)
            computed = fastest_dtype(torch.device("cpu"))
            calibrated = Calibrated(method, tokens, dtype=computed, **_gptq(making))
        # For calibration, 16-bit weights stay 16-bit in memory; matrix products widen them as needed.
        source = load_model(folder, stored_dtype(config) if calibrated else torch.float32)
        with _counting() as say:
            quantized = quantize_model(source, bits, making.group_size, making.select, kind, calibrated, say)
        if calibrated and calibrated.grown:
            logger.warning(
                f"damping was increased for {len(calibrated.grown)} linears, up to "
                f"{max(calibrated.grown.values()):g}; camelid.json lists them, "
                "and more calibration text may help"
            )
        if making.head_bits is not None:
            quantize_head(quantized, making.head_bits, kind)
        ids = special_ids(tokenizer, config)
        data = digest_paths(making.calibration) if calibrated else {}
        made = provenance(parents=[Parent.of(folder)], data=data) | markers_entry(folder)
        made["quantized"] = {"method": method, "bits": bits, **_settings(making, calibrated)}
        save_quantized(draft, quantized, dtype=kind, special_ids=ids, provenance=made)
        tokenizer.save(draft)
    return quantized


def _gptq(making: Quantization) -> dict[str, Any]:
    return {name: getattr(making, name) for name in GPTQ_SETTINGS}


def _tokens(method: str, making: Quantization, tokenizer: Tokenizer) -> Tensor:
    if not making.calibration:
        raise WrongCall(f"--method {method} needs calibration text: pass --calibration FILE")
    texts = (text for text, _ in Corpus(making.calibration))
    return rows_of_text(texts, tokenizer, making.calibration_rows, making.calibration_length, making.seed)


def _settings(making: Quantization, calibrated: Calibrated | None) -> dict[str, Any]:
    """How the folder was quantised, for camelid.json; the layout's own description is in config.json."""
    shown = {"group_size": making.group_size, "select": making.select, "head_bits": making.head_bits}
    if calibrated is None:
        return shown
    rows, length = calibrated.tokens.shape
    shown |= {"calibration_rows": rows, "calibration_length": length, "seed": making.seed}
    return shown | (
        _gptq(making) | {"damping_grown": calibrated.grown} if calibrated.method == "gptq" else {}
    )


@contextmanager
def _counting() -> Iterator[Callable[[str], None]]:
    """Shows the progress over the layers on one terminal line, which is ended at the end or on an error."""
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
    old, new = weight_bytes(before), weight_bytes(after)
    print(f"{before}: {old / 1e6:.1f} MB")
    print(f"{after}: {new / 1e6:.1f} MB, {old / new:.2f} times smaller")
    print(
        f"  {len(packed)} linears, {weights:,} weights: {small / 1e6:.1f} MB, "
        f"{8 * small / weights:.2f} bits per weight"
    )
    print(f"  the rest, in {dtype} (mostly the embedding): {(new - small) / 1e6:.1f} MB")
