"""When torch.compile is used, and what is lost where it cannot be.

Only the block is compiled, once for all layers: that fuses the element-wise passes, where nearly all of the gain is,
in a fraction of the time that a whole model takes. Passes without gradients stay eager.
"""

import warnings
from typing import Literal

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from camelid.base.errors import CamelidError
from camelid.model.layers import Context
from camelid.model.transformer import RunBlock, Transformer


def compile_blocks(model: Transformer, mode: Literal["auto"] | bool = "auto") -> None:
    """Has the block of each stack compiled at its first training step; `mode` False leaves the model as it is.

    Where no compiler works, "auto" warns once and training goes on eagerly; True raises `CamelidError`.
    """
    if mode is not False:
        for stack in model.stacks:
            stack.run_block = _CompiledBlock(stack.run_block, required=mode is True)


class _CompiledBlock:
    """Runs a block compiled where gradients are wanted, and eagerly where they are not or compiling has failed."""

    def __init__(self, eager: RunBlock, *, required: bool) -> None:
        self.eager, self.required = eager, required
        # Every shape is compiled for itself: kernels for shapes known only at run time lose most of the gain.
        self.compiled: RunBlock = torch.compile(eager, dynamic=False)

    def __call__(self, block: nn.Module, x: Tensor, context: Context) -> Tensor:
        if not torch.is_grad_enabled():
            return self.eager(block, x, context)
        try:
            return self.compiled(block, x, context)
        except TorchDynamoException as error:
            reason = str(error).splitlines()[0]
            if self.required:
                raise CamelidError(
                    f"the model cannot be compiled: {reason}\n"
                    "Install a C++ compiler (g++ or clang++, or point CXX to one), or train with compile: auto or false."
                ) from error
            warnings.warn(
                f"training runs without torch.compile, at about three quarters of the speed, because {reason}. "
                "A C++ compiler (g++ or clang++, or CXX pointing to one) would mend that.",
                stacklevel=2,
            )
            self.compiled = self.eager
            return self.eager(block, x, context)
