"""When torch.compile is used, and what it costs to go without.

Only the block is compiled, once for all layers. That fuses the element-wise operations, which is where nearly
all of the speed-up comes from, in a fraction of the time that compiling a whole model takes. Passes without
gradients stay eager.
"""

import warnings
from typing import Literal

import torch
from torch import Tensor, nn

from camelid.base.errors import CamelidError
from camelid.model.layers import Context
from camelid.model.transformer import RunBlock, Transformer, run_block


def compile_blocks(model: Transformer, mode: Literal["auto"] | bool = "auto") -> None:
    """Compiles the block of each stack at its first training step; `mode` False leaves the model eager.

    Without a working compiler, "auto" warns once and trains eagerly; True raises `CamelidError`.
    """
    if mode is not False:
        for stack in model.stacks:
            stack.run_block = _CompiledBlock(stack.run_block, required=mode is True)


class _CompiledBlock:
    """Runs a block compiled if gradients are needed, and eagerly if not or if compilation has failed."""

    def __init__(self, eager: RunBlock, *, required: bool) -> None:
        self.eager, self.required = eager, required
        # Compile for each shape separately: dynamic shapes lose most of the speed-up. A compiled block
        # recomputes what is cheap by itself, so it is never the selective one.
        self.compiled: RunBlock = torch.compile(run_block, dynamic=False)

    def __call__(self, block: nn.Module, x: Tensor, context: Context) -> Tensor:
        if not torch.is_grad_enabled():
            return self.eager(block, x, context)
        try:
            return self.compiled(block, x, context)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).splitlines()[0]
            if self.required:
                raise CamelidError(
                    f"the model cannot be compiled: {reason}\n"
                    "Install a C++ compiler (g++ or clang++, or point CXX to one), or set compile to auto or "
                    "false."
                ) from error
            warnings.warn(
                f"training without torch.compile, at about three quarters of the speed: {reason}. "
                "To fix this, install a C++ compiler (g++ or clang++, or point CXX to one).",
                stacklevel=2,
            )
            self.compiled = self.eager
            return self.eager(block, x, context)
