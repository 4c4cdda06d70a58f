"""When torch.compile is used, and what is lost where it cannot be."""

from typing import Literal

import torch

from camelid.model.transformer import Transformer


def compile_blocks(model: Transformer, mode: Literal["auto"] | bool = "auto") -> None:
    """Compiles what pays for this model on this machine; without a compiler everything runs eagerly."""
    if mode is not False:
        model.run_block = torch.compile(model.run_block, dynamic=False)
