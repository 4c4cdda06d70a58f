"""`camelid merge MODEL ADAPTER OUT`: adds an adapter to its base's weights, and compares the logits."""

from pathlib import Path
from typing import Literal

import torch

from camelid.base.atomic import atomic_folder
from camelid.base.errors import CamelidError
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_config, save_checkpoint
from camelid.formats.hugging_face.peft_folder import load_adapter
from camelid.formats.load import load_model, load_tokenizer, special_ids
from camelid.model.adapters import adapted, merge_adapters
from camelid.model.transformer import Transformer
from camelid.quant.quantize import unpack_model
from camelid.runs.provenance import Parent, provenance
from camelid.text.markers import markers_entry

TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 1e-1}
"""The most that logits may differ, as a fraction of their standard deviation; below float32, every weight of
the merged model is rounded once."""
WAYS_OUT = {
    True: "some of its weights are too large for float32 or not finite: train it again",
    False: "merge with --dtype float32",
}
PROBE = 64
"""Tokens on which both are compared."""


def merge(
    model: str | Path,
    adapter: Path,
    out: Path,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> None:
    """Writes the model with the adapter added to its weights, computed in float32, as a new folder.

    model: the adapter's base, a folder or a hub name; quantised weights are dequantised first. The merged
    folder is read back and must give the logits of the unmerged model within `TOLERANCE`; otherwise
    `CamelidError` is raised and nothing is written.
    """
    base = resolve(model)
    tokenizer = load_tokenizer(base, adapter)
    whole = load_adapter(unpack_model(load_model(base)), adapter, base)
    count, before = len(adapted(whole)), _logits(whole)
    merge_adapters(whole)
    made = provenance(parents=[Parent.of(base), Parent.of(adapter)]) | markers_entry(adapter)
    with atomic_folder(out) as draft:
        ids = special_ids(tokenizer, read_config(base))
        save_checkpoint(draft, whole, dtype=getattr(torch, dtype), special_ids=ids, provenance=made)
        (tokenizer.for_encoder() if whole.encoder is not None else tokenizer).save(draft)
        apart = float((_logits(load_model(draft)) - before).abs().max() / before.std())
        if not apart <= TOLERANCE[dtype]:
            raise CamelidError(
                f"the merged model's logits differ from the unmerged ones by {apart:.1e} of their spread, "
                f"more than {TOLERANCE[dtype]:.0e}; {WAYS_OUT[dtype == 'float32']}"
            )
    print(f"{base} + {adapter} -> {out}: {count} linears merged, {dtype}")
    print(f"  logits as unmerged: {apart:.1e} of their spread apart, at most {TOLERANCE[dtype]:.0e} allowed")


@torch.inference_mode()
def _logits(model: Transformer) -> torch.Tensor:
    """Logits on tokens from all over the vocabulary, the same for every model of its size."""
    count = min(PROBE, model.spec.context_length)
    tokens = (torch.arange(count)[None] * 7919 + 1) % model.spec.vocab_size
    found: torch.Tensor = model(tokens, tokens) if model.encoder is not None else model(tokens)
    return found
