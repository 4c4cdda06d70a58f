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
    """Tells whether a model and its key-value cache fit into memory, and what would fit; reads no weights.

    The exit code is 1 if the model does not fit.

    Args:
        model: a checkpoint folder, a .gguf file, a name on the hub, or a published model (`camelid models`)
        context: tokens of each sequence; left out: the model's context length
        sequences: number of sequences that run at once
        dtype: precision to compute in; stored: that of the stored weights, bfloat16 for published models
        memory: free memory of another machine, such as 8GB or 6.5GiB; left out: this machine's
        device: whether to plan for a CPU or a GPU; left out: a GPU if there is one
    """
    from camelid.engine.fits import print_fit

    print_fit(model, context, sequences, dtype, memory, device)
