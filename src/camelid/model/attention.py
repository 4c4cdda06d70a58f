"""Scaled dot-product attention, causal within documents and over a cache (arXiv:1706.03762, eq. 1).

On a CPU torch's fused attention runs far below the speed of a matrix product. There, rows without a cache take blocks
of queries through batched products instead, and skip the keys that no query of a block sees. Elsewhere, and with a
cache, torch's own function is used.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

QUERY_BLOCK = 128
"""Queries of one product: enough for its full speed, few enough that a causal block wastes little."""
KEY_STEP = 64
"""Skipped keys are counted in such steps, because every new width costs the matrix library a new kernel."""
LONGEST_KEPT = 1024
"""Rows up to this length keep their probabilities for the backward pass; longer ones compute them again."""


def attention(
    queries: Float[Tensor, "batch time heads dim"],
    keys: Float[Tensor, "batch past kv_heads dim"],
    values: Float[Tensor, "batch past kv_heads dim"],
    documents: Int[Tensor, "batch time"] | None = None,
    query_positions: Int[Tensor, "batch time"] | None = None,
) -> Float[Tensor, "batch time heads dim"]:
    """softmax(q k^T / sqrt(dim)) v for each head, a key-value head shared by heads / kv_heads query heads.

    Without `query_positions` the keys are those of the same tokens and a query sees itself and what precedes it in
    its own document. With them, a query at position p sees the keys 0..p.
    """
    q, k, v = (x.transpose(1, 2) for x in (queries, keys, values))
    if query_positions is None and queries.device.type == "cpu":
        keep = torch.is_grad_enabled() and q.requires_grad and q.shape[2] <= LONGEST_KEPT
        mixed, _ = blocked_attention(q.contiguous(), k.contiguous(), v.contiguous(), documents, keep)
    else:
        mask = _mask(documents, query_positions, keys.shape[1])
        mixed = F.scaled_dot_product_attention(
            q, k.to(q.dtype), v.to(q.dtype), mask, is_causal=mask is None, enable_gqa=q.shape[1] != k.shape[1]
        )
    return mixed.transpose(1, 2)


def _mask(
    documents: Tensor | None, query_positions: Tensor | None, past: int
) -> Bool[Tensor, "batch 1 time past"] | None:
    if query_positions is not None:
        return (torch.arange(past, device=query_positions.device) <= query_positions[..., None])[:, None]
    if documents is None:
        return None
    same = documents[:, :, None] == documents[:, None, :]
    return same.tril()[:, None]


@torch.library.custom_op("camelid::blocked_attention", mutates_args=())
def blocked_attention(
    queries: Tensor, keys: Tensor, values: Tensor, documents: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor]:
    """Causal attention by blocks of queries, and all their probabilities in one flat tensor, empty unless `keep`.

    queries: [batch, heads, time, dim]; keys, values: [batch, kv_heads, time, dim]; documents: [batch, time]. All are
    contiguous, and so are the results.
    """
    mixed, kept = _results(queries, keys, values, documents, keep)
    q, k, v, out = _folded(queries, keys), keys.flatten(0, 1), values.flatten(0, 1), _folded(mixed, keys)
    for block in _blocks(q, documents, kept):
        probabilities = block.probabilities(q, k)
        block.put(out, torch.bmm(probabilities, v[:, block.keys]))
    return mixed, kept


@torch.library.custom_op("camelid::blocked_attention_backward", mutates_args=())
def blocked_attention_backward(
    gradient: Tensor, queries: Tensor, keys: Tensor, values: Tensor, documents: Tensor | None, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The derivatives by queries, keys and values; what several blocks add to a key is summed in float32."""
    q_grad, k_grad, v_grad = (torch.empty_like(x) for x in (queries, keys, values))
    q, out_grad, folded_q_grad = (_folded(x, keys) for x in (queries, gradient.contiguous(), q_grad))
    k, v = keys.flatten(0, 1), values.flatten(0, 1)
    k_sum, v_sum = (torch.zeros_like(x, dtype=torch.float32) for x in (k, v))
    for block in _blocks(q, documents, kept):
        probabilities = block.place if kept.numel() else block.probabilities(q, k)
        grad = block.take(out_grad)
        v_sum[:, block.keys] += torch.bmm(probabilities.mT, grad)
        grad = torch.bmm(grad, v[:, block.keys].mT)
        grad = torch._softmax_backward_data(grad, probabilities, -1, grad.dtype).mul_(block.scale)
        k_sum[:, block.keys] += torch.bmm(grad.mT, block.take(q))
        block.put(folded_q_grad, torch.bmm(grad, k[:, block.keys]))
    k_grad.copy_(k_sum.view_as(k_grad))
    v_grad.copy_(v_sum.view_as(v_grad))
    return q_grad, k_grad, v_grad


class _Block(NamedTuple):
    """Queries that go through one product, the keys that any of them sees, 0 or -inf for each pair of them."""

    queries: slice
    keys: slice
    bias: Float[Tensor, "#folded rows keys"]
    place: Float[Tensor, "folded rows keys"]
    """Where the block's probabilities go."""
    scale: float

    def take(self, x: Float[Tensor, "folded group time dim"]) -> Float[Tensor, "folded rows dim"]:
        """The block's rows, those of all heads that share a key-value head behind each other."""
        return x[:, :, self.queries].flatten(1, 2)

    def put(self, x: Float[Tensor, "folded group time dim"], rows: Float[Tensor, "folded rows dim"]) -> None:
        """Writes the block's rows."""
        x[:, :, self.queries] = rows.unflatten(1, (x.shape[1], -1))

    def probabilities(self, q: Tensor, k: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(dim)) over the keys that each query sees."""
        scores = torch.baddbmm(self.bias, self.take(q), k[:, self.keys].mT, alpha=self.scale)
        return torch.softmax(scores, -1, out=self.place)


def _blocks(q: Tensor, documents: Tensor | None, kept: Tensor) -> Iterator[_Block]:
    """Every block of queries, its place inside `kept` where probabilities are kept, else new."""
    folded, group, time, dim = q.shape
    used = 0
    for start in range(0, time, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, time)
        first, bias = _bias(start, stop, documents, q)
        shape = (folded, group * (stop - start), stop - first)
        place = kept[used : used + math.prod(shape)] if kept.numel() else q.new_empty(math.prod(shape))
        used += place.numel()
        yield _Block(slice(start, stop), slice(first, stop), bias, place.view(shape), dim**-0.5)


def _bias(start: int, stop: int, documents: Tensor | None, q: Tensor) -> tuple[int, Tensor]:
    """The first key that any query of the block sees, and 0 or -inf for each query and key from there on."""
    folded, group, _, _ = q.shape
    positions = torch.arange(stop)
    visible = (positions <= positions[start:, None])[None]
    first = 0
    if documents is not None:
        visible = visible & (documents[:, start:stop, None] == documents[:, None, :stop])
        first = int(visible.any(0).any(0).int().argmax()) // KEY_STEP * KEY_STEP
        visible = visible[:, :, first:]
    bias = torch.zeros(visible.shape, dtype=q.dtype).masked_fill_(~visible, -math.inf)
    heads = folded // len(documents) if documents is not None else 1
    return first, bias[:, None, None].expand(-1, heads, group, -1, -1).flatten(0, 1).flatten(1, 2)


def _folded(x: Tensor, keys: Tensor) -> Float[Tensor, "folded group time dim"]:
    """Batch and key-value heads as one axis, the heads that share one as the next."""
    return x.view(keys.shape[0] * keys.shape[1], -1, *x.shape[2:])


@blocked_attention.register_fake
def _results(
    queries: Tensor, keys: Tensor, values: Tensor, documents: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor]:
    batch, heads, time, _ = queries.shape
    causal_pairs = sum(
        min(QUERY_BLOCK, time - start) * min(start + QUERY_BLOCK, time) for start in range(0, time, QUERY_BLOCK)
    )
    return torch.empty_like(queries), queries.new_empty(batch * heads * causal_pairs if keep else 0)


@blocked_attention_backward.register_fake
def _gradients(
    gradient: Tensor, queries: Tensor, keys: Tensor, values: Tensor, documents: Tensor | None, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(queries), torch.empty_like(keys), torch.empty_like(values)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    queries, keys, values, documents, _ = inputs
    ctx.save_for_backward(queries, keys, values, documents, output[1])


def _backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *blocked_attention_backward(gradient, *ctx.saved_tensors), None, None


blocked_attention.register_autograd(_backward, setup_context=_save)
