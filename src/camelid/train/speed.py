"""How fast this machine is: its peak in matrix products, which MFU is measured against, and its training steps."""

import time
from functools import lru_cache
from itertools import repeat
from statistics import median

import torch

from camelid.data.batches import Batch
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.train.compilation import compile_blocks
from camelid.train.loop import training_steps
from camelid.train.objectives import cross_entropy
from camelid.train.optim import adamw

KNOWN_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}
"""Dense bfloat16 FLOP/s that the vendor's data sheets state, by a part of the device's name."""


@lru_cache
def peak_flops(device: torch.device, dtype: torch.dtype, size: int = 2048, repeats: int = 5) -> float:
    """The known peak of this GPU, else the fastest of `repeats` products of two size x size matrices, in FLOP/s."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if known := [peak for part, peak in KNOWN_PEAKS.items() if part in name]:
            return known[0]
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        (left @ right)[0, 0].item()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def training_speed(
    spec: ModelSpec, context: int, rows: int, *, compiled: bool, seconds: float = 3.0
) -> float:
    """Tokens a second of whole updates of a fresh model on random tokens: the median after two for warming up.

    At least three updates are timed, and as many as fit into `seconds`.
    """
    model = Transformer(spec).initialize(0)
    if compiled:
        compile_blocks(model, "auto")
    optimizer = adamw(model.named_parameters(), weight_decay=0.1, betas=(0.9, 0.95), eps=1e-8)
    steps = training_steps(
        model,
        repeat(_random_batch(spec.vocab_size, context, rows)),
        cross_entropy(model, torch.bfloat16),
        optimizer,
        lambda step: 1e-4,
        micro_batch_size=rows,
        gradient_clip=1.0,
    )
    times: list[float] = []
    for step in steps:
        if step.number >= 2:
            times.append(step.seconds)
        if len(times) >= 3 and sum(times) >= seconds:
            break
    return rows * context / median(times)


def _random_batch(vocab_size: int, context: int, rows: int) -> Batch:
    tokens = torch.randint(0, vocab_size, (rows, context))
    positions = torch.arange(context).expand(rows, context).contiguous()
    return Batch(tokens, tokens, torch.ones(rows, context), torch.zeros_like(tokens), positions)
