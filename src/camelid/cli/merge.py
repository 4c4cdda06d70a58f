"""`camelid merge`."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional


def merge(
    model: Annotated[str, Positional],
    adapter: Annotated[Path, Positional],
    out: Annotated[Path, Positional],
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> None:
    """Adds an adapter to the weights of its base and checks that the logits stay the same.

    Args:
        model: the adapter's base: a checkpoint folder or a name on the hub; quantised weights are dequantised
        adapter: the adapter's folder, as `camelid tune --lora.rank` and PEFT write it
        out: the folder to write; it must not exist
        dtype: precision of the written weights
    """
    from camelid.formats.merging import merge as merge_adapter

    merge_adapter(model, adapter, out, dtype)
