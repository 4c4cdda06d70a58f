"""`camelid models`."""

from typing import Annotated

from tyro.conf import Positional


def models(names: Annotated[tuple[str, ...], Positional] = ()) -> None:
    """Lists published models: exact parameters, training FLOPs per token, key-value cache and memory.

    GFLOPs/token: for training, at the model's context length. KV bytes/token: one cached token in bfloat16.
    train: weights, gradients and AdamW's averages in float32, without activations. run: weights in bfloat16
    and the cache of one full context.

    Args:
        names: names, or beginnings of names, of the models to list; left out: all
    """
    from camelid.scaling.published import print_models

    print_models(names)
