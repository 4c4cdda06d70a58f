"""Causal attention as batched products over blocks of queries, skipping keys that no query of a block attends
to.

On a CPU, torch's fused attention is far slower than a matrix product. With dropout this also serves GPUs.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from camelid.model.dropout import Seeds, Site, kept_values

QUERY_BLOCK = 128
"""Queries per product: enough for full speed, few enough that a causal block wastes little."""
KEY_STEP = 64
"""Keys are skipped in multiples of this: the matrix library builds a kernel for every new width."""


@torch.library.custom_op("camelid::blocked_attention", mutates_args=())
def blocked_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Tensor | None,
    shared: Tensor | None,
    keep: bool,
    seeds: Tensor | None,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """Causal attention in blocks of queries, and their probabilities in one flat tensor, empty unless `keep`.

    queries: [batch, heads, time, dim]; keys, values: [batch, kv_heads, time, dim]; starts: [batch, time], the
    first key that each query attends to; shared: [2, batch, time], the first and the end of further keys
    before those; seeds: [batch], of dropout. Arguments and results are contiguous.
    """
    mixed, kept = _results(queries, keys, values, starts, shared, keep)
    q, k, v, out = _folded(queries, keys), keys.flatten(0, 1), values.flatten(0, 1), _folded(mixed, keys)
    for block in _blocks(q, starts, shared, kept):
        probabilities = block.probabilities(q, k)
        if seeds is not None:
            probabilities = block.dropped(probabilities, block.kept_values(seeds, dropout, q), dropout)
        block.write(out, torch.bmm(probabilities, block.keys_of(v)))
    return mixed, kept


@torch.library.custom_op("camelid::blocked_attention_backward", mutates_args=())
def blocked_attention_backward(
    gradient: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Tensor | None,
    shared: Tensor | None,
    kept: Tensor,
    seeds: Tensor | None,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values; recomputes probabilities that were not kept."""
    queries_grad, keys_grad, values_grad = (torch.zeros_like(x) for x in (queries, keys, values))
    q, out_grad, q_grad = (_folded(x, keys) for x in (queries, gradient.contiguous(), queries_grad))
    k, v, k_grad, v_grad = (x.flatten(0, 1) for x in (keys, values, keys_grad, values_grad))
    for block in _blocks(q, starts, shared, kept):
        probabilities = block.out if kept.numel() else block.probabilities(q, k)
        grad = block.queries_of(out_grad)
        mask = None if seeds is None else block.kept_values(seeds, dropout, q)
        used = probabilities if mask is None else block.dropped(probabilities, mask, dropout)
        v_grad[:, block.keys].baddbmm_(used.mT, grad)
        grad = torch.bmm(grad, block.keys_of(v).mT)
        if mask is not None:
            grad = block.dropped(grad, mask, dropout)
        grad = torch._softmax_backward_data(grad, probabilities, -1, grad.dtype)
        k_grad[:, block.keys].baddbmm_(grad.mT, block.queries_of(q), alpha=block.scale)
        block.write(q_grad, torch.baddbmm(q.new_zeros(()), grad, block.keys_of(k), beta=0, alpha=block.scale))
    return queries_grad, keys_grad, values_grad


class _Block(NamedTuple):
    """The queries of one product, and the keys that any of them attends to."""

    queries: slice
    keys: slice
    starts: Int[Tensor, "batch queries"] | None
    """The first key that each query attends to; None if all attend to the first of `keys`."""
    shared: Int[Tensor, "2 batch queries"] | None
    """The first and the end of further keys."""
    out: Float[Tensor, "folded rows keys"]
    """The output tensor of the block's probabilities."""
    scale: float

    def queries_of(self, x: Float[Tensor, "folded group time dim"]) -> Float[Tensor, "folded rows dim"]:
        """The block's rows; those of heads that share a key-value head are concatenated."""
        return x[:, :, self.queries].flatten(1, 2)

    def keys_of(self, x: Float[Tensor, "folded time dim"]) -> Float[Tensor, "folded keys dim"]:
        """The rows of the block's keys, made contiguous: the product would copy them far more slowly."""
        return x[:, self.keys].contiguous()

    def write(
        self, x: Float[Tensor, "folded group time dim"], rows: Float[Tensor, "folded rows dim"]
    ) -> None:
        """Writes the block's rows."""
        x[:, :, self.queries] = rows.view(len(x), x.shape[1], -1, x.shape[3])

    def probabilities(self, q: Tensor, k: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(dim)) over the keys that each query attends to."""
        scores = torch.baddbmm(self.bias(q), self.queries_of(q), self.keys_of(k).mT, alpha=self.scale)
        return torch.softmax(scores, -1, out=self.out)

    def kept_values(self, seeds: Seeds, share: float, q: Tensor) -> Bool[Tensor, "folded rows keys"]:
        """The mask of dropout; drawn for all keys, because those skipped depend on the other rows."""
        shape = (len(q) // len(seeds), q.shape[1] * (self.queries.stop - self.queries.start), self.keys.stop)
        mask = kept_values(shape, seeds, share, q.device, Site.PROBABILITIES, self.queries.start)
        return mask.flatten(0, 1)[..., self.keys]

    def dropped(self, x: Tensor, mask: Tensor, share: float) -> Tensor:
        """x with the values outside of the mask dropped."""
        return (x * mask).mul_(1 / (1 - share))

    def bias(self, q: Float[Tensor, "folded group time dim"]) -> Float[Tensor, "#folded #rows keys"]:
        """0 where a query attends to a key, -inf elsewhere."""
        first, start, stop = self.keys.start, self.queries.start, self.queries.stop
        bias = _causal_bias(stop - start, stop - first, q.dtype, q.device)
        heads = 1
        if self.starts is not None:
            heads = q.shape[0] // len(self.starts)
            keys = torch.arange(first, stop, device=q.device)
            hidden = keys < self.starts[..., None]
            if self.shared is not None:
                hidden &= (keys < self.shared[0, ..., None]) | (keys >= self.shared[1, ..., None])
            bias = bias.masked_fill(hidden, -math.inf)
        if heads * q.shape[1] == 1:
            return bias
        return bias[:, None, None].expand(-1, heads, q.shape[1], -1, -1).flatten(0, 1).flatten(1, 2)


@lru_cache(maxsize=32)
def _causal_bias(
    queries: int, keys: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "1 queries keys"]:
    """0 where one of the last `queries` of `keys` tokens attends to a key, -inf elsewhere."""
    return torch.full((1, queries, keys), -math.inf, dtype=dtype, device=device).triu_(keys - queries + 1)


def _blocks(q: Tensor, starts: Tensor | None, shared: Tensor | None, kept: Tensor) -> Iterator[_Block]:
    """All blocks of queries; their probabilities are views of `kept` if it is not empty, else new tensors."""
    folded, group, time, dim = q.shape
    begins = range(0, time, QUERY_BLOCK)
    firsts, lasts = ([0] * len(begins),) * 2
    if starts is not None and starts.is_cuda:
        lasts = [time] * len(begins)  # skipping keys would make the CPU wait for the GPU
    elif starts is not None and shared is not None:
        lasts = [time] * len(begins)
        firsts = [int(torch.minimum(starts, shared[0])[:, at : at + QUERY_BLOCK].min()) for at in begins]
    elif starts is not None:
        # Starts never decrease along a row, so a block's first query reaches farthest back.
        ends = torch.tensor([min(begin + QUERY_BLOCK, time) - 1 for begin in begins])
        firsts = starts[:, ::QUERY_BLOCK].amin(0).tolist()
        lasts = starts[:, ends].amax(0).tolist()
    used = 0
    for start, first, last in zip(begins, firsts, lasts, strict=True):
        stop = min(start + QUERY_BLOCK, time)
        first = first // KEY_STEP * KEY_STEP
        shape = (folded, group * (stop - start), stop - first)
        out = kept[used : used + math.prod(shape)] if kept.numel() else q.new_empty(math.prod(shape))
        used += out.numel()
        own = None if starts is None or last <= first else starts[:, start:stop]
        further = None if shared is None else shared[..., start:stop]
        yield _Block(slice(start, stop), slice(first, stop), own, further, out.view(shape), dim**-0.5)


def _folded(x: Tensor, keys: Tensor) -> Float[Tensor, "folded group time dim"]:
    """Batch and key-value heads as the first axis, the query heads that share one as the second."""
    return x.view(keys.shape[0] * keys.shape[1], -1, *x.shape[2:])


@blocked_attention.register_fake
def _results(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Tensor | None,
    shared: Tensor | None,
    keep: bool,
    seeds: Tensor | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    batch, heads, time, _ = queries.shape
    causal_pairs = sum(
        min(QUERY_BLOCK, time - start) * min(start + QUERY_BLOCK, time)
        for start in range(0, time, QUERY_BLOCK)
    )
    return torch.empty_like(queries), queries.new_empty(batch * heads * causal_pairs if keep else 0)


@blocked_attention_backward.register_fake
def _gradients(
    gradient: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Tensor | None,
    shared: Tensor | None,
    kept: Tensor,
    seeds: Tensor | None,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(queries), torch.empty_like(keys), torch.empty_like(values)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    queries, keys, values, starts, shared, _, seeds, ctx.dropout = inputs
    ctx.save_for_backward(queries, keys, values, starts, shared, output[1], seeds)


def _backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *blocked_attention_backward(gradient, *ctx.saved_tensors, ctx.dropout), *(None,) * 5


blocked_attention.register_autograd(_backward, setup_context=_save)
