"""What AWQ's clipping does to a model: the error of each linear's output, its gain, and perplexity.

Gain is <y', y> / <y, y> of a linear's output y and what quantising makes of it, over the calibration text: 1
where errors lean to neither side. Clipped ranges make weights smaller, so outputs shrink, in every layer
alike. Rows: rounded to nearest; ranges clipped as AWQ does, without its scaling; and these with every output
scaled back to a gain of 1.

    python bench/clipping.py MODEL --calibration TEXT --test TEXT
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch

from camelid.data.read.corpus import Corpus
from camelid.engine.engine import Engine
from camelid.engine.perplexity import perplexity
from camelid.formats.load import load_model, load_tokenizer
from camelid.quant import quantize
from camelid.quant.awq import clipped
from camelid.quant.calibration import calibration_rows
from camelid.quant.choices import Bits
from camelid.quant.round_to_nearest import QuantizedWeight, round_to_nearest

TOKENS = 32_768
KINDS = ("nearest", "clipped", "scaled back")


class Choice:
    """How a linear's codes are chosen; it keeps each one's error and gain."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.errors: list[float] = []
        self.gains: list[float] = []

    def __call__(
        self, weight: torch.Tensor, second: torch.Tensor, bits: Bits, group_size: int, dtype: torch.dtype
    ) -> QuantizedWeight:
        if self.kind == "nearest":
            found = round_to_nearest(weight, bits, group_size, dtype)
        else:
            found = clipped(weight, second, bits, group_size, dtype)
        own, theirs = weight.float(), found.dequantize()
        whole = ((own @ second) * own).sum(1)
        gain = ((theirs @ second) * own).sum(1) / whole
        if self.kind == "scaled back":
            found = replace(found, scales=(found.scales.float() / gain[:, None]).to(dtype))
        off = own - found.dequantize()
        self.errors.append(float(((off @ second) * off).sum() / whole.sum()))
        self.gains.append(float(gain.mean()))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--bits", type=int, nargs="+", default=[3, 2])
    parser.add_argument("--group-size", type=int, default=64)
    options = parser.parse_args()
    tokenizer = load_tokenizer(options.model)
    rows = calibration_rows((text for text, _ in Corpus(options.calibration)), tokenizer, 128, 512)
    text = "\n\n".join(text for text, _ in Corpus(options.test))
    text = tokenizer.decode(tokenizer.encode(text)[:TOKENS])
    for bits in options.bits:
        for choice in map(Choice, KINDS):
            model = load_model(options.model)
            with (
                patch.object(quantize, "smooth", lambda *_: None),
                patch.object(quantize, "NEVER_CLIPPED", ()),
                patch.object(quantize, "clipped", choice),
            ):
                calibrated = quantize.Calibrated("awq", rows)
                quantize.quantize_model(model, bits, options.group_size, calibrated=calibrated)
            found = perplexity(Engine(model.bfloat16(), tokenizer), [text], "overlapping").perplexity
            error, gain = statistics.mean(choice.errors), statistics.mean(choice.gains)
            print(
                f"{bits} bits, {choice.kind}: relative error {error:.4f}, gain before {gain:.3f}, "
                f"perplexity {found:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
