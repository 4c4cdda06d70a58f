"""Second moments of the inputs of a model's linears on calibration text, layer by layer.

Later layers see the outputs of the quantised earlier ones, as in GPTQ's reference code.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from camelid.base.cores import share_cores
from camelid.base.errors import CamelidError
from camelid.model.blocks import Block, SubLayer
from camelid.model.layers import Context
from camelid.model.transformer import Transformer

SHARED_INPUTS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
"""A block's linears in order of computation, grouped by their common input."""
ROWS_AT_ONCE = 2
STRIP = 384
"""Rows of the second moments per product, up to the diagonal: symmetry saves nearly half the work."""


class _ReachedError(Exception):
    """Stops a forward pass once the last linear of interest has its input."""


@dataclass
class Moments:
    """Moments of a linear's input x over all calibration tokens: the mean of x x^T, and the mean of |x|."""

    second: Float[Tensor, "inner inner"]
    magnitude: Float[Tensor, " inner"]
    tokens: int = 0

    @classmethod
    def empty(cls, inner: int) -> "Moments":
        """Moments before the first input."""
        return cls(torch.zeros(inner, inner), torch.zeros(inner))

    def add(self, x: Float[Tensor, "*batch inner"]) -> None:
        """Adds inputs to the means."""
        rows = x.reshape(-1, x.shape[-1]).float()
        count = self.tokens + len(rows)
        self.second.mul_(self.tokens / count)
        for begin in range(0, len(self.second), STRIP):
            end = begin + STRIP
            self.second[begin:end, :end].addmm_(rows[:, begin:end].T, rows[:, :end], alpha=1 / count)
            self.second[:begin, begin:end] = self.second[begin:end, :begin].T
        self.magnitude.mul_(self.tokens / count).add_(rows.abs().sum(0), alpha=1 / count)
        self.tokens = count


@torch.no_grad()
def layer_by_layer(
    model: Transformer,
    tokens: Int[Tensor, "rows time"],
    *,
    dtype: torch.dtype = torch.float32,
    true_sequential: bool = True,
) -> Iterator[tuple[int, tuple[str, ...], Moments]]:
    """Yields, for each group of linears with a common input: the layer, their names in it, the input's
    moments.

    The caller may replace these linears before the next iteration; later ones then see the outputs of the
    replacements. Without `true_sequential`, all groups of a layer are measured before the first is yielded.
    Raises `CamelidError` if an input is not finite.
    """
    states = [_first_states(model, rows, dtype) for rows in torch.split(tokens, ROWS_AT_ONCE)]
    for layer, block in enumerate(model.layers):
        states = [(x, replace(context, layer=layer)) for x, context in states]
        present = {name for name, _ in block.named_modules()}
        found = [tuple(name for name in names if name in present) for names in SHARED_INPUTS]
        whole = {"": block}
        for part, sub_layer in (cast(Block, block).sub_layers() if true_sequential else whole).items():
            groups = [names for names in found if names and names[0].startswith(part)]
            for together in [[names] for names in groups] if true_sequential else [groups]:
                for names, moments in zip(
                    together, _measured(block, sub_layer, states, together), strict=True
                ):
                    _check_finite(moments, f"layers.{layer}.{names[0]}")
                    yield layer, names, moments
            for index, (x, context) in enumerate(states):
                states[index] = (sub_layer(x, context), context)


def _check_finite(moments: Moments, path: str) -> None:
    if not moments.second.isfinite().all():
        raise CamelidError(
            f"{path}: its input is NaN or infinite on the calibration text; look for damaged weights with "
            "`camelid check`, and fix a model that overflows before quantising it"
        )


def _measured(
    block: nn.Module,
    sub_layer: SubLayer,
    states: Sequence[tuple[Tensor, Context]],
    groups: Sequence[tuple[str, ...]],
) -> list[Moments]:
    """The moments of the input of each group."""
    watched = [cast(nn.Linear, block.get_submodule(names[0])) for names in groups]
    moments = [Moments.empty(linear.in_features) for linear in watched]
    with _hooks(watched, moments):
        for x, context in share_cores(states):
            try:
                sub_layer(x, context)
            except _ReachedError:
                continue
    return moments


@contextmanager
def _hooks(linears: Sequence[nn.Module], moments: Sequence[Moments]) -> Iterator[None]:
    def watching(number: int) -> "torch.utils.hooks.RemovableHandle":
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            moments[number].add(given[0])
            if number + 1 == len(linears):
                raise _ReachedError

        return linears[number].register_forward_pre_hook(hook)

    handles = [watching(number) for number in range(len(linears))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _first_states(
    model: Transformer, rows: Int[Tensor, "rows time"], dtype: torch.dtype
) -> tuple[Tensor, Context]:
    """The input of the first block."""
    caught: list[tuple[Tensor, Context]] = []

    def catch(block: nn.Module, x: Tensor, context: Context) -> Tensor:
        caught.append((x, context))
        raise _ReachedError

    usual, training = model.run_block, model.training
    model.run_block = catch
    model.eval()  # calibration drops nothing, also for a model that is being trained
    try:
        model.hidden_states(rows, dtype=dtype)
    except _ReachedError:
        pass
    finally:
        model.run_block = usual
        model.train(training)
    return caught[0]
