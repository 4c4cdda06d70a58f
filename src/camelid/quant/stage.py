"""`camelid quantize MODEL OUT`: a checkpoint folder as a smaller one."""

from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from camelid.atomic import atomic_folder
from camelid.load import load_model, load_tokenizer
from camelid.model.checkpoint import read_config, read_spec, read_tensors, weight_files
from camelid.model.hub import resolve
from camelid.model.transformer import Transformer
from camelid.provenance import Parent, provenance
from camelid.quant.packed import PackedLinear
from camelid.quant.quantize import ALL_LINEARS, quantize_model
from camelid.quant.round_to_nearest import Bits
from camelid.quant.storage import PARTS, check_quantizable, save_quantized


def quantize(
    model: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    bits: Bits = 4,
    group_size: int | None = None,
    select: tuple[str, ...] = ALL_LINEARS,
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16",
) -> None:
    """Makes a model small: its linears at 4 or 8 bits by rounding to the nearest, in the public GPTQ layout.

    Args:
        model: a checkpoint folder or a name on the hub
        out: the folder to write; it must not exist, or be empty
        bits: of each weight, 4 or 8
        group_size: neighbouring weights that share a scale, -1 for a whole row; by default -1 at 8 bits, and at 4
            bits the largest of 64, 32, 16 and 8 that fits the model
        select: shell patterns over linears; `!pattern` leaves some out
        dtype: of all that is not quantised (embedding, output projection, norms, scales)
    """
    folder = resolve(model)
    check_quantizable(read_spec(folder))
    source, tokenizer = load_model(folder), load_tokenizer(folder)
    quantized = quantize_model(source, bits, group_size, select, getattr(torch, dtype))
    config = read_config(folder)
    ids = {key: config.get(key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    with atomic_folder(out) as draft:
        made = provenance(parents=[Parent.of(folder)])
        save_quantized(draft, quantized, dtype=getattr(torch, dtype), special_ids=ids, provenance=made)
        tokenizer.save(draft)
    _print_sizes(folder, out, quantized)


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
