"""Calibration text as rows of tokens, from which GPTQ and AWQ measure the layers' inputs."""

from array import array
from collections.abc import Iterable

import torch
from jaxtyping import Int
from torch import Tensor

from camelid.base.errors import CamelidError, WrongCall
from camelid.text.tokenizer import Tokenizer

MOST_READ = 32
"""Text is read up to this multiple of the tokens needed; rows are drawn from it."""


def calibration_rows(
    texts: Iterable[str], tokenizer: Tokenizer, rows: int, length: int, seed: int = 0
) -> Int[Tensor, "rows length"]:
    """`rows` distinct sequences of `length` tokens from the concatenated documents (EOS between), drawn by
    seed.

    Raises what `check_sizes` does, and `CamelidError` if the text is too short.
    """
    check_sizes(rows, length)
    ids = array("i")
    for text in texts:
        ids.extend(tokenizer.encode(text))
        if tokenizer.eos_id is not None:
            ids.append(tokenizer.eos_id)
        if len(ids) >= MOST_READ * rows * length:
            break
    count = len(ids) // length
    if count < rows:
        fewer = f", or use --calibration-rows {count} or a smaller --calibration-length" if count else ""
        raise CamelidError(
            f"the calibration text has {len(ids):,} tokens, but {rows} rows of {length} need "
            f"{rows * length:,}; give more text{fewer}"
        )
    stretches = torch.tensor(ids[: count * length], dtype=torch.int64).view(count, length)
    return stretches[torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:rows]]


def check_sizes(rows: int, length: int) -> None:
    """Raises `WrongCall` if rows or length is less than 1."""
    for name, value in (("rows", rows), ("length", length)):
        if value < 1:
            raise WrongCall(f"--calibration-{name} is {value}; it must be at least 1")
