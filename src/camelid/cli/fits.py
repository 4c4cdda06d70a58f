"""`camelid fits`."""

from typing import Annotated, Literal

from tyro.conf import Positional


def fits(
    model: Annotated[str, Positional],
    context: int | None = None,
    sequences: int = 1,
    dtype: Literal["stored", "float32", "bfloat16", "float16"] = "stored",
    memory: str | None = None,
    device: Literal["cpu", "cuda"] | None = None,
) -> None:
    """Says whether a model and its key-value cache fit into memory, and what would; no weight is read.

    Exit code 1 where the model does not fit as asked.

    Args:
        model: a checkpoint folder, a .gguf file, a name on the hub, or a published model by name (`camelid models`)
        context: tokens of each sequence, by default the model's own context
        sequences: how many run at once
        dtype: precision to compute in, by default that of the stored weights; of a published model bfloat16
        memory: free memory of another machine, such as 8GB or 6.5GiB, by default this machine's
        device: whether the CPU or a GPU is meant, by default a GPU where there is one
    """
    from camelid.engine.fits import print_fit

    print_fit(model, context, sequences, dtype, memory, device)
