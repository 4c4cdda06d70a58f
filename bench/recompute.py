"""The memory of activations with and without recomputation, by formula and as measured, on one CPU core.

    python bench/recompute.py [--quick] [--json]

For each way a process of its own runs the forward and backward pass of a small LLaMA in float32, eager, over
long rows, and measures the peak of its resident memory above what it has before the pass. The formula is that
of `camelid.scaling.cluster.peak_activation_bytes`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

WAYS = ("none", "selective", "full")
SHAPES = {  # width, layers, heads, feed-forward width, vocabulary; rows, context
    "8 layers of 256, 1 row of 2,048": (256, 8, 4, 688, 4096, 1, 2048),
    "4 layers of 512, 1 row of 2,048": (512, 4, 8, 1376, 4096, 1, 2048),
    "6 layers of 384, 2 rows of 1,280": (384, 6, 6, 1536, 8192, 2, 1280),
}
CLEAR_PEAK = "5"
"""Written to /proc/self/clear_refs, it resets the peak of the resident memory."""


def measure(shape: str, way: str) -> None:
    """Prints the peak of a pass in bytes, its seconds, and the formula's value."""
    import torch

    from camelid.base.memory import peak_memory, resident_memory, return_large_blocks
    from camelid.model.spec import ModelSpec
    from camelid.model.transformer import Transformer, run_selectively
    from camelid.scaling.cluster import peak_activation_bytes
    from camelid.train.objectives import cross_entropy
    from camelid.train.speed import random_batch

    torch.set_num_threads(1)
    return_large_blocks()  # freed memory is not counted
    width, layers, heads, feed_forward, vocabulary, rows, context = SHAPES[shape]
    spec = ModelSpec.llama(
        vocab_size=vocabulary,
        hidden_size=width,
        num_layers=layers,
        num_heads=heads,
        feed_forward_width=feed_forward,
        context_length=context,
    )
    model = Transformer(spec).initialize(0)
    model.recompute_activations = way == "full"
    if way == "selective":
        model.run_block = run_selectively
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    objective = cross_entropy(model)
    objective(random_batch(spec, 64, 1)).backward()  # loads kernels
    batch = random_batch(spec, context, rows)
    before = resident_memory()
    Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
    began = time.perf_counter()
    objective(batch).backward()
    found = {"peak": peak_memory() - before, "seconds": time.perf_counter() - began}
    print(json.dumps({**found, "formula": peak_activation_bytes(spec, rows * context, way, bytes_each=4)}))


def main() -> None:
    """Prints a row for each shape and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="only the first shape")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.work:
        measure(*wanted.work)
        return
    if not wanted.json:
        print(
            "| model and rows | recomputed | formula MB | measured MB | error | seconds |\n"
            "|---|---|---|---|---|---|"
        )
    for shape in list(SHAPES)[: 1 if wanted.quick else None]:
        for way in WAYS:
            command = (sys.executable, __file__, "--work", shape, way)
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout)
            peak, formula = found["peak"] / 1e6, found["formula"] / 1e6
            if wanted.json:
                row = {
                    "name": f"memory {way}, {shape}",
                    "ours": peak,
                    "peer": formula,
                    "peer_name": "formula",
                }
                print(json.dumps({**row, "unit": "MB", "ratio": formula / peak}), flush=True)
            else:
                numbers = f"{formula:,.0f} | {peak:,.0f} | {formula / peak - 1:+.1%} | {found['seconds']:.1f}"
                print(f"| {shape} | {way} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
