"""Loading a model, wherever it is: a local folder or a name on the hub, in full precision or quantised."""

from pathlib import Path

import torch

from camelid.errors import CamelidError
from camelid.model.checkpoint import load_checkpoint, read_config
from camelid.model.hub import resolve
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.text import tokenizer as tokenizer_file
from camelid.text.tokenizer import Tokenizer


def load_model(path_or_name: str | Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model in a checkpoint folder or on the hub, in evaluation mode, its weights in `dtype`.

    `model(token_ids)` gives logits. Raises `CamelidError` where there is no such model or its files are damaged.
    """
    folder = resolve(path_or_name)
    if "quantization_config" in read_config(folder):
        from camelid.quant import load_quantized

        return load_quantized(folder, dtype)
    return load_checkpoint(folder, dtype)


def load_tokenizer(path_or_name: str | Path) -> Tokenizer:
    """The tokenizer in a checkpoint folder or on the hub; raises `CamelidError` like `load_model`."""
    return tokenizer_file.load_tokenizer(resolve(path_or_name))


def check_tokenizer_fits(spec: ModelSpec, tokenizer: Tokenizer) -> None:
    """Raises `CamelidError` where the tokenizer has ids for which the model has no embedding."""
    if tokenizer.vocab_size > spec.vocab_size:
        raise CamelidError(
            f"the tokenizer has {tokenizer.vocab_size} ids and the model {spec.vocab_size} embeddings, so ids from "
            f"{spec.vocab_size} on would have none; use the tokenizer that the model was trained with"
        )
