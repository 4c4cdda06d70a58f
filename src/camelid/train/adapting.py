"""The base of a tuning run with the recipe's adapter: checked before any work, read, and adapted."""

import logging
from pathlib import Path

import torch
from torch import nn

from camelid.base.errors import CamelidError, WrongCall, naming
from camelid.base.memory import return_large_blocks
from camelid.formats.hugging_face.checkpoint import blank_model, read_config, read_spec
from camelid.formats.load import load_model, stored_dtype
from camelid.model.adapters import LINEARS_OF_LAYERS, adaptable, adapted, add_lora
from camelid.model.linears import kind_of, linears
from camelid.model.lora import LoRA, LoRALinear
from camelid.model.spec import ModelSpec
from camelid.model.surgery import select
from camelid.model.transformer import Transformer
from camelid.quant.nf4 import BLOCK, to_nf4
from camelid.recipes.lora import LoRASettings

logger = logging.getLogger(__name__)


def check_lora(lora: LoRASettings, base: Path, tensor_size: int = 1) -> list[str]:
    """The paths of the linears that these settings adapt, none without a rank.

    Raises `CamelidError` if a pattern matches nothing, or if the base is quantised and not adapted, and
    `WrongCall` if processes that share each matrix (`tensor_size`) would cut NF4's blocks.
    """
    quantised = "quantization_config" in read_config(base)
    if quantised and lora.rank is None:
        raise CamelidError(
            f"{base} is quantised, so only an adapter on it can be trained; give --lora.rank 8, for example"
        )
    if quantised and lora.base == "nf4":
        raise CamelidError(f"{base} is quantised already; remove --lora.base")
    if lora.base == "nf4" and tensor_size > 1:
        _check_blocks(read_spec(base), tensor_size)
    with naming("--lora.targets"):
        return [] if lora.rank is None else select(adaptable(blank_model(read_spec(base))), lora.targets)


def _check_blocks(spec: ModelSpec, processes: int) -> None:
    """Raises `WrongCall` if `processes` that share each matrix would cut NF4's blocks."""
    sizes = {"values of all heads": spec.num_heads * spec.head_dim}
    sizes["feed-forward width"] = spec.feed_forward.width
    if odd := {name: size for name, size in sizes.items() if size % (processes * BLOCK)}:
        raise WrongCall(
            f"parallel.tensor is {processes}, which would cut NF4's blocks of {BLOCK} weights: the model's "
            f"{' and '.join(f'{size} {name}' for name, size in odd.items())} must be a multiple of "
            f"{processes * BLOCK}; give another --parallel.tensor, or a base of camelid quantize"
        )


def adapted_model(base: Path, lora: LoRASettings, seed: int) -> Transformer:
    """The model in the folder `base` with a new adapter, the only part that is trained; logs its size."""
    assert lora.rank is not None  # the caller tunes all weights without one
    if lora.base == "nf4" or "quantization_config" in read_config(base):
        return_large_blocks()  # matrices are dequantised and freed all the time
    if lora.base == "nf4":
        # In the stored dtype weights stay in the mapped file until they are rounded, one linear at a time.
        model = to_nf4(load_model(base, stored_dtype(read_config(base))), LINEARS_OF_LAYERS).float()
    else:
        model = load_model(base)
    settings = LoRA(lora.rank, lora.alpha, lora.rank_stabilised, lora.dropout)
    add_lora(model, settings, lora.targets, seed)
    count = sum(each.numel() for each in model.parameters() if each.requires_grad)
    whole = model.spec.parameter_count()
    logger.info(
        f"an adapter of {count:,} trained parameters ({count / whole:.2%} of {whole:,}) on "
        f"{len(adapted(model))} linears"
    )
    return model


@torch.no_grad()
def round_frozen(model: Transformer, dtype: torch.dtype) -> None:
    """Keeps frozen matrices in the dtype of the activations, to which every product rounds them anyway.

    Nothing changes but the time and memory that this takes in each pass.
    """
    every = (each.base if isinstance(each, LoRALinear) else each for each in linears(model).values())
    modules: list[nn.Module] = [each for each in every if kind_of(each) == "plain"]
    if model.embed_positions is None:  # two embeddings are added before they are rounded
        modules.append(model.embed_tokens)
    for module in modules:
        weight = module.weight
        if isinstance(weight, nn.Parameter) and not weight.requires_grad:
            weight.data = weight.data.to(dtype)


def training_flops_per_token(model: Transformer, context: int) -> float:
    """`ModelSpec.training_flops_per_token`, less the gradients of frozen matrices: 4 N and 6 for each weight
    of an adapter, where N are the weights of the model's products; a reward model's output is one row."""
    spec, rows = model.spec, len(model.head.weight)
    missing = (spec.vocab_size - rows) * spec.hidden_size
    flops = spec.training_flops_per_token(context) - 6 * missing
    if not (updates := adapted(model)):
        return flops
    stacks = 2 if model.encoder is not None else 1  # a token passes one of them
    trained = sum(each.lora_a.numel() + each.lora_b.numel() for each in updates.values())
    return flops + (6 * trained - 2 * (spec.matmul_parameters() - missing)) / stacks
