"""Whether a model runs in this memory or another, and what would."""

from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.table import Table

from camelid.base.errors import CamelidError
from camelid.base.memory import parse_size
from camelid.engine.device import choose_device
from camelid.engine.memory import Need, Plan, gigabytes, plan, ways_out
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_config
from camelid.formats.hugging_face.tensor_files import dtype_name
from camelid.formats.load import stored_dtype
from camelid.model.presets import PRESETS, preset
from camelid.model.spec import ModelSpec

COLUMNS = ("", "weights", "cache", "working", "all", "fits", "longest context")


def print_fit(
    model: str,
    context: int | None = None,
    sequences: int = 1,
    dtype: Literal["stored", "float32", "bfloat16", "float16"] = "stored",
    memory: str | None = None,
    device: Literal["cpu", "cuda"] | None = None,
) -> None:
    """Prints whether a model and its key-value cache fit into memory, and what would; no weight is read.

    model: a checkpoint folder, a .gguf file, a name on the hub or a published model's; memory: free bytes of
    another machine, such as 8GB. Raises `CamelidError` where the model does not fit as asked.
    """
    free = None if memory is None else parse_size(memory)
    found, kind = _described(model)
    asked = kind if dtype == "stored" else getattr(torch, dtype)
    # Of another machine only the kind of device counts.
    place = choose_device(device) if free is None or device is None else torch.device(device)
    answer = plan(found, asked, context=context, sequences=sequences, free=free, device=place)
    _print(model, answer)
    if not answer.fits:
        source = model if isinstance(found, Path) and found.is_dir() else "MODEL"
        raise CamelidError(f"{model} does not fit as asked; {'; '.join(ways_out(answer, source))}")


def _described(name: str) -> tuple[Path | ModelSpec, torch.dtype]:
    """What stands under this name, and the dtype that it is computed in unless asked otherwise."""
    path = Path(name)
    if path.is_file() and path.suffix == ".gguf":
        return path, torch.float32  # what `camelid import` writes
    if not path.exists() and name in PRESETS:
        return preset(name), torch.bfloat16
    try:
        folder = resolve(name)
    except CamelidError as error:
        raise CamelidError(f"{error}; or a published model by its name (camelid models)") from error
    return folder, stored_dtype(read_config(folder))


def _print(model: str, answer: Plan) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for need in (answer.asked, *answer.smaller):
        table.add_row(*_figures(need))
    console = Console(highlight=False)
    asked = answer.asked
    many = f"{answer.sequences:,} sequences of " if answer.sequences > 1 else ""
    console.print(
        f"{model}: {many}{asked.context:,} tokens, {gigabytes(answer.free)} free",
        markup=False,
        soft_wrap=True,
    )
    # A pipe has no width of its own; rows are then as long as they are.
    console.print(table) if console.is_terminal else Console(highlight=False, width=200).print(table)
    if asked.weights.mapped:
        console.print(
            f"{gigabytes(asked.weights.mapped)} of the weights stay in the mapped file", soft_wrap=True
        )


def _figures(need: Need) -> tuple[str, ...]:
    weights = need.weights
    name = dtype_name(need.dtype) if weights.bits >= 16 else f"{weights.bits} bits"
    sizes = (weights.size, need.cache, need.working, need.total)
    return name, *map(gigabytes, sizes), "yes" if need.fits else "no", f"{need.longest:,}"
