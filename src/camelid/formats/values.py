"""Models with a value head on disk: an ordinary checkpoint folder, with the head's token and two scalars in
camelid.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from camelid.base.errors import CamelidError
from camelid.base.json import read_table
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import write_checkpoint
from camelid.formats.load import load_model
from camelid.model.values import OWN, ValueModel

HEAD, METADATA = "value_head", "camelid.json"


def save_value_model(
    folder: Path, model: ValueModel, *, special_ids: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Writes the model into an existing folder, like `save_checkpoint`."""
    state = ((name, value.detach()) for name, value in model.state_dict().items() if name not in OWN)
    head = {"reserved_token": model.reserved, "gain": model.gain.item(), "bias": model.bias.item()}
    write_checkpoint(
        folder, model.spec, state, special_ids=special_ids, provenance={**provenance, HEAD: head}
    )


def load_value_model(path_or_name: str | Path, dtype: torch.dtype = torch.float32) -> ValueModel:
    """The model with its value head, in evaluation mode, its weights in `dtype`.

    Raises `CamelidError` if the folder has no value head, or one that does not fit its vocabulary.
    """
    folder = resolve(path_or_name)
    head = read_table(folder / METADATA, optional=True).get(HEAD)
    if head is None:
        raise CamelidError(
            f"{folder} has no {HEAD} in {METADATA}, so it cannot rate texts; train one with "
            "camelid align --method verifier"
        )
    try:
        reserved, gain, bias = int(head["reserved_token"]), float(head["gain"]), float(head["bias"])
    except (KeyError, TypeError, ValueError) as error:
        raise CamelidError(
            f"{folder / METADATA}: {HEAD} needs the numbers reserved_token, gain and bias, found {head!r:.80}"
        ) from error
    model = load_model(folder, dtype)
    if not 0 <= reserved < model.spec.vocab_size:
        raise CamelidError(
            f"{folder / METADATA}: {HEAD}.reserved_token is {reserved}; the vocabulary has "
            f"{model.spec.vocab_size} rows"
        )
    return ValueModel.of(model, reserved, gain, bias)
