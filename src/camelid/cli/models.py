"""`camelid models`."""

from typing import Annotated

from tyro.conf import Positional


def models(names: Annotated[tuple[str, ...], Positional] = ()) -> None:
    """Lists the published models: exact parameters, training FLOPs a token, key-value cache and memory.

    GFLOPs/token: to train, at the model's context. KV bytes/token: of a cached token in bfloat16. train: weights,
    gradients and AdamW's averages in float32, without activations. run: bfloat16 weights and the cache of one full
    context.

    Args:
        names: those to list, or the beginnings of their names; none: all
    """
    from camelid.scaling.published import print_models

    print_models(names)
