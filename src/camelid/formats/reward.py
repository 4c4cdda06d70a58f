"""Reward models on disk: folders of transformers' `...ForSequenceClassification` with one label."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from camelid.base.errors import CamelidError, naming
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import (
    blank_model,
    fill,
    read_config,
    read_tensors,
    write_checkpoint,
)
from camelid.formats.hugging_face.families import family_for, family_of
from camelid.formats.load import check_dtype
from camelid.model.reward import put_reward_head
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer

HEAD, OUR_HEAD = "score.weight", "lm_head.weight"
CLASSIFIER = "ForSequenceClassification"
LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel")
WITHOUT = ("cohere", "t5")
"""Model types for which transformers has no such class, or another one."""


def is_reward_model(folder: Path) -> bool:
    """Whether a folder holds a sequence classifier, as reward models are."""
    return (folder / "config.json").is_file() and _is_classifier(read_config(folder))


def check_rewardable(spec: ModelSpec, base: Path) -> None:
    """Raises `CamelidError` if no sequence classifier of transformers expresses a model with this spec."""
    if spec.encoder_layers or family_for(spec).model_type in WITHOUT:
        raise CamelidError(
            f"{base} is of an architecture for which transformers has no classifier of the same layout; "
            "train reward models from decoders such as LLaMA, Mistral, Qwen or GPT-2"
        )


def save_reward_model(
    folder: Path, model: Transformer, *, special_ids: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Writes the model into an existing folder, like `save_checkpoint`."""
    state = {name: value.detach() for name, value in model.state_dict().items()}
    head, family = state.pop(OUR_HEAD), family_for(model.spec)
    name = family.architecture
    for ending in LANGUAGE_MODELS:
        name = name.removesuffix(ending)
    config = {
        "architectures": [name + CLASSIFIER],
        "num_labels": 1,
        "id2label": {"0": "reward"},
        "label2id": {"reward": 0},
    }
    write_checkpoint(
        folder,
        model.spec,
        state.items(),
        stored=[(HEAD, head)],
        special_ids=special_ids,
        extra_config=config,
        provenance=provenance,
    )


def read_reward_spec(folder: Path) -> ModelSpec:
    """The spec of the model below the head; raises `CamelidError` unless it is a sequence classifier."""
    config = read_config(folder)
    if not _is_classifier(config):
        raise CamelidError(
            f"{folder} is not a reward model: its architecture is {config.get('architectures')}, not "
            f"...{CLASSIFIER}; train one with camelid align --method reward"
        )
    with naming(folder):
        return family_of({**config, "architectures": None}).read(config)


def load_reward_model(path_or_name: str | Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model in evaluation mode, its weights in `dtype`; `model(ids)` is [batch, time, 1].

    Raises `CamelidError` if the folder is not a sequence classifier with one label.
    """
    check_dtype(dtype)
    folder = resolve(path_or_name)
    spec = read_reward_spec(folder)
    tensors = read_tensors(folder)
    head = tensors.pop(HEAD, None)
    if head is None or head.shape != (1, spec.hidden_size):
        found = "missing" if head is None else f"of shape {list(head.shape)}"
        raise CamelidError(
            f"{folder}: {HEAD} is {found}; a reward model has one label, shape {[1, spec.hidden_size]}"
        )
    model = blank_model(spec, [*(each.numel() for each in tensors.values()), _output_values(spec)])
    model.lm_head = None
    put_reward_head(fill(model, folder, tensors, dtype))
    assert model.lm_head is not None  # just put there
    model.lm_head.weight.data = head.to(dtype)
    return model.eval()


def reward_values(spec: ModelSpec) -> int:
    """The number of weights of a reward model, whose head has a value for each hidden one."""
    return spec.parameter_count() - _output_values(spec) + spec.hidden_size


def _output_values(spec: ModelSpec) -> int:
    """Values of the output projection, which the spec has and a reward model does not."""
    return 0 if spec.tie_embeddings else spec.vocab_size * spec.hidden_size


def _is_classifier(config: Mapping[str, Any]) -> bool:
    return any(str(name).endswith(CLASSIFIER) for name in config.get("architectures") or [])
