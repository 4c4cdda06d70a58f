"""Loads models and tokenizers from a local folder or the hub, in full precision or quantised."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from camelid.base.errors import CamelidError, WrongCall, naming, reason_of
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import load_checkpoint, read_config
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.text import tokenizer as tokenizer_file
from camelid.text.tokenizer import Tokenizer
from camelid.text.vocabulary_files import has_vocabulary


def load_model(
    path_or_name: str | Path, dtype: torch.dtype = torch.float32, adapter: str | Path | None = None
) -> Transformer:
    """The model in a checkpoint folder or on the hub, in evaluation mode, its weights in `dtype`.

    `model(token_ids)` gives logits. adapter: a folder in PEFT's layout, which is put onto the model unmerged.
    Raises `CamelidError` if there is no such model, its files are damaged, or the adapter is for another
    base.
    """
    check_dtype(dtype)
    folder = resolve(path_or_name)
    if adapter is not None:
        from camelid.formats.hugging_face.peft_folder import load_adapter

        return load_adapter(load_model(folder, dtype), Path(adapter), folder)
    if "quantization_config" in read_config(folder):
        from camelid.formats.packed.storage import load_quantized

        return load_quantized(folder, dtype)
    return load_checkpoint(folder, dtype)


def check_dtype(dtype: object) -> None:
    """Raises `WrongCall` unless `dtype` is a floating-point torch.dtype (not its name)."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise WrongCall(f"dtype is {dtype!r}; it must be a floating-point torch.dtype such as torch.float32")


def stored_dtype(config: Mapping[str, Any]) -> torch.dtype:
    """The dtype that config.json names; float32 instead of float16, which is slow on CPUs."""
    named = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), None)
    return named if named in (torch.bfloat16, torch.float32) else torch.float32


def load_tokenizer(path_or_name: str | Path, adapter: str | Path | None = None) -> Tokenizer:
    """The tokenizer in a checkpoint folder or on the hub, or in an adapter's folder if it has one.

    Raises `CamelidError` like `load_model`.
    """
    if adapter is not None and has_vocabulary(Path(adapter)):
        return tokenizer_file.load_tokenizer(adapter)
    return tokenizer_file.load_tokenizer(resolve(path_or_name))


def with_template(tokenizer: Tokenizer, file: Path | None) -> Tokenizer:
    """The tokenizer with the chat template of a Jinja file; unchanged without a file."""
    if file is None:
        return tokenizer
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CamelidError(f"{file}: the chat template cannot be read: {reason_of(error)}") from error
    with naming(file):
        return Tokenizer(
            tokenizer.backend, tokenizer.config, chat_template=source, stop_ids=tokenizer.stop_ids
        )


def special_ids(tokenizer: Tokenizer, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """BOS, EOS and padding for the configs of a folder; EOS lists all stop tokens.

    config: of the source folder; its BOS and padding take precedence over the tokenizer's.
    """
    stops = sorted(tokenizer.stop_ids)
    if config is None:
        config = {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
    named = config.get("eos_token_id")
    if stops and set(stops) != {*(named if isinstance(named, list) else [named])}:
        named = stops[0] if len(stops) == 1 else stops
    return {
        "bos_token_id": config.get("bos_token_id"),
        "eos_token_id": named,
        "pad_token_id": config.get("pad_token_id"),
    }


def check_tokenizer_fits(spec: ModelSpec, tokenizer: Tokenizer) -> None:
    """Raises `CamelidError` if the tokenizer has ids without an embedding in the model."""
    if tokenizer.vocab_size > spec.vocab_size:
        raise CamelidError(
            f"the tokenizer has {tokenizer.vocab_size} ids but the model has {spec.vocab_size} "
            "embeddings, none for ids "
            f"from {spec.vocab_size} on; use the tokenizer that the model was trained with"
        )
