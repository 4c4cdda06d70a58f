"""`camelid quantize MODEL OUT`: a checkpoint folder as a smaller one."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor

from camelid.atomic import atomic_folder
from camelid.comparing import compare_methods
from camelid.data.corpus import Corpus
from camelid.errors import WrongCall
from camelid.infer.engine import stored_dtype
from camelid.load import load_model, load_tokenizer
from camelid.model.checkpoint import read_config, read_spec, read_tensors, weight_files
from camelid.model.hub import resolve
from camelid.model.transformer import Transformer
from camelid.provenance import Parent, provenance
from camelid.quant.calibration import calibration_rows as rows_of_text
from camelid.quant.packed import PackedLinear
from camelid.quant.quantize import ALL_LINEARS, Calibrated, Method, quantize_head, quantize_model
from camelid.quant.round_to_nearest import Bits
from camelid.quant.storage import PARTS, check_quantizable, save_quantized
from camelid.text.tokenizer import Tokenizer
from camelid.train.machine import fastest_dtype


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
        head_bits: of the output projection, which a small model spends half of its time on; it stays as it is unless told otherwise
        compare: files of text that no method has seen: quantise by every method instead, each into a folder inside `out`,
            and say what each keeps of the model, in a table and in report.html
    """
    folder = resolve(model)
    check_quantizable(read_spec(folder))
    text: dict[str, Any] = {
        "calibration_rows": calibration_rows,
        "calibration_length": calibration_length,
        "seed": seed,
    }
    ways: dict[str, Any] = {
        "act_order": act_order,
        "static_groups": static_groups,
        "true_sequential": true_sequential,
    }
    if compare:

        def one(method: Method, out: Path) -> None:
            looked = () if method == "rtn" else calibration
            quantize(
                model,
                out,
                bits,
                group_size,
                select,
                dtype,
                method,
                looked,
                damping=damping,
                head_bits=head_bits,
                **text,
                **ways,
            )

        compare_methods(folder, out, compare, bits, one)
        return
    kind: torch.dtype = getattr(torch, dtype)
    config, tokenizer = read_config(folder), load_tokenizer(folder)
    calibrated = None
    if method != "rtn":
        tokens = _tokens(method, calibration, tokenizer, **text)
        computed = fastest_dtype(torch.device("cpu"))
        calibrated = Calibrated(method, tokens, damping=damping, dtype=computed, **ways)
    elif calibration:
        raise WrongCall("--calibration is for --method gptq and awq; rtn looks at no text")
    # Calibrating, weights that are stored in half the size are kept so: the products widen them as they go.
    source = load_model(folder, stored_dtype(config) if calibrated else torch.float32)
    quantized = quantize_model(source, bits, group_size, select, kind, calibrated, _say)
    if head_bits is not None:
        quantize_head(quantized, head_bits, kind)
    ids = {key: config.get(key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    with atomic_folder(out) as draft:
        made = provenance(parents=[Parent.of(folder)])
        made["quantized"] = {"method": method, "bits": bits, **_settings(calibrated, seed)}
        save_quantized(draft, quantized, dtype=kind, special_ids=ids, provenance=made)
        tokenizer.save(draft)
    _print_sizes(folder, out, quantized)


def _tokens(
    method: str,
    paths: Sequence[Path],
    tokenizer: Tokenizer,
    *,
    calibration_rows: int,
    calibration_length: int,
    seed: int,
) -> Tensor:
    if not paths:
        raise WrongCall(f"--method {method} needs text: name files with --calibration")
    texts = (text for text, _ in Corpus(paths))
    return rows_of_text(texts, tokenizer, calibration_rows, calibration_length, seed)


def _settings(calibrated: Calibrated | None, seed: int) -> dict[str, Any]:
    """What the folder says of how it was quantised."""
    if calibrated is None:
        return {}
    rows, length = calibrated.tokens.shape
    shown = {"calibration_rows": rows, "calibration_length": length, "seed": seed}
    names = (
        ("act_order", "static_groups", "true_sequential", "damping") if calibrated.method == "gptq" else ()
    )
    return shown | {name: getattr(calibrated, name) for name in names}


def _say(text: str) -> None:
    print(f"\r{text}", end="", file=sys.stderr, flush=True)


def _print_sizes(before: Path, after: Path, model: Transformer) -> None:
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
    print(f"  the rest, which stays as it is (most of it the embedding): {(new - small) / 1e6:.1f} MB")
