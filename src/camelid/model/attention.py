"""Scaled dot-product attention, causal within documents and over a cache (arXiv:1706.03762, eq. 1).

On a CPU, torch's fused attention is far slower than a matrix product. Without a cache, rows are therefore
computed there in blocks of queries with batched products, skipping keys that no query of a block attends to.
On other devices, and with a cache, torch's own function is used; not for dropout, whose masks there come from
torch's global generator.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from camelid.model.dropout import Seeds, Site, dropped, kept_values

QUERY_BLOCK = 128
"""Queries per product: enough for full speed, few enough that a causal block wastes little."""
KEY_STEP = 64
"""Keys are skipped in multiples of this: the matrix library builds a kernel for every new width."""
LONGEST_KEPT = 1024
"""Rows up to this length keep their probabilities for the backward pass; longer ones recompute them."""


def attention(
    queries: Float[Tensor, "batch time heads dim"],
    keys: Float[Tensor, "batch past kv_heads dim"],
    values: Float[Tensor, "batch past kv_heads dim"],
    documents: Int[Tensor, "batch time"] | None = None,
    seen: Float[Tensor, "#batch 1 time past"] | None = None,
    *,
    window: int | None = None,
    dropout: float = 0.0,
    seeds: Seeds | None = None,
) -> Float[Tensor, "batch time heads dim"]:
    """softmax(q k^T / sqrt(dim)) v for each head; heads / kv_heads query heads share a key-value head.

    Without `seen`, keys belong to the same tokens, and a query attends to its own document up to itself, at
    most to the last `window` tokens; with `seeds`, a share `dropout` of the probabilities is dropped. With
    `seen`, keys come from a cache, masked by `seen_past`.
    """
    q, k, v = (x.transpose(1, 2) for x in (queries, keys, values))
    mixed: Tensor
    seeds = seeds if dropout and seen is None else None
    if seen is None and (queries.device.type == "cpu" or seeds is not None):
        keep = torch.is_grad_enabled() and q.requires_grad and q.shape[2] <= LONGEST_KEPT
        starts = _starts(documents, window, q)
        mixed, _ = blocked_attention(
            q.contiguous(), k.contiguous(), v.contiguous(), starts, keep, seeds, dropout
        )
    else:
        limited = seen is None and (documents is not None or window is not None)
        mask = causal_mask(q, documents, window) if limited else seen
        shape = q.shape
        if mask is not None and q.shape[2] == 1:
            # Query heads that share keys have the same mask: as rows of one product they need no copied keys.
            q = q.reshape(q.shape[0], k.shape[1], -1, q.shape[3])
        elif q.is_cuda and q.shape[1] != k.shape[1] and (mask is not None or q.dtype == torch.float32):
            # On GPUs, the kernel for shared heads supports neither masks nor float32; torch would use
            # one that materialises all scores.
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        mixed = F.scaled_dot_product_attention(
            q,
            k.to(q.dtype),
            v.to(q.dtype),
            mask,
            is_causal=mask is None,
            enable_gqa=q.shape[1] != k.shape[1],
        ).reshape(shape)
    return mixed.transpose(1, 2)


def leave_out_cudnn() -> None:
    """Disables cuDNN attention in this process, which torch prefers on an H100 or B200.

    cuDNN takes about 0.4 s to plan each new shape (modelscope/FunASR issue 3704), and its gradients with a
    mask may be NaN (pytorch/pytorch issue 196678).
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def biased_attention(
    queries: Float[Tensor, "batch time heads dim"],
    keys: Float[Tensor, "batch past heads dim"],
    values: Float[Tensor, "batch past heads dim"],
    bias: Float[Tensor, "*batch heads time past"] | None,
    mask: Bool[Tensor, "#batch 1 #time past"] | None,
    dropout: float = 0.0,
    seeds: Seeds | None = None,
    site: Site = Site.PROBABILITIES,
) -> Float[Tensor, "batch time heads dim"]:
    """softmax(q k^T + bias) v over the keys where `mask` is true, unscaled as in T5 (arXiv:1910.10683).

    Uses plain products: the bias is learned, and no fused CPU kernel computes its gradient faster.
    """
    q, k, v = (x.transpose(1, 2) for x in (queries, keys.to(queries.dtype), values.to(queries.dtype)))
    scores = q @ k.mT
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.float().softmax(-1).to(q.dtype)
    return (dropped(weights, dropout, seeds, site) @ v).transpose(1, 2)


def causal_mask(
    queries: Float[Tensor, "batch heads time dim"],
    documents: Int[Tensor, "batch time"] | None = None,
    window: int | None = None,
) -> Bool[Tensor, "#batch 1 time time"]:
    """The mask of `attention` without a cache: True where a query attends to a key of the same tokens."""
    keys = torch.arange(queries.shape[2], device=queries.device)
    seen = (keys <= keys[:, None])[None]
    starts = _starts(documents, window, queries)
    return (seen if starts is None else seen & (keys >= starts[..., None]))[:, None]


def seen_past(
    positions: Int[Tensor, "batch time"], past: int, window: int | None, dtype: torch.dtype
) -> Float[Tensor, "batch 1 time past"]:
    """0 where a query at position p attends to a cached key, the last `window` of 0..p, else -inf."""
    keys = torch.arange(past, device=positions.device)
    hidden = keys > positions[..., None]
    if window is not None:
        hidden |= keys <= positions[..., None] - window
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -math.inf)[
        :, None
    ]


def _starts(
    documents: Tensor | None, window: int | None, queries: Tensor
) -> Int[Tensor, "batch time"] | None:
    """The first key that each query attends to; None if that is always key 0."""
    starts = None if documents is None else document_starts(documents)
    if window is None or window >= queries.shape[2]:
        return starts
    reach = (torch.arange(queries.shape[2], device=queries.device) - window + 1).clamp_min(0)
    return reach.expand(queries.shape[0], -1) if starts is None else torch.maximum(starts, reach)


def document_starts(documents: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
    """The position at which each token's document begins; a document is a run of equal ids."""
    positions = torch.arange(documents.shape[1], device=documents.device)
    begins = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
    return torch.where(begins, positions, 0).cummax(-1).values


@torch.library.custom_op("camelid::blocked_attention", mutates_args=())
def blocked_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Tensor | None,
    keep: bool,
    seeds: Tensor | None,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """Causal attention in blocks of queries, and their probabilities in one flat tensor, empty unless `keep`.

    queries: [batch, heads, time, dim]; keys, values: [batch, kv_heads, time, dim]; starts: [batch, time], the
    first key that each query attends to; seeds: [batch], of dropout. Arguments and results are contiguous.
    """
    mixed, kept = _results(queries, keys, values, starts, keep)
    q, k, v, out = _folded(queries, keys), keys.flatten(0, 1), values.flatten(0, 1), _folded(mixed, keys)
    for block in _blocks(q, starts, kept):
        probabilities = block.probabilities(q, k)
        if seeds is not None:
            probabilities = block.dropped(probabilities, block.kept_values(seeds, dropout, q), dropout)
        block.put(out, torch.bmm(probabilities, block.seen(v)))
    return mixed, kept


@torch.library.custom_op("camelid::blocked_attention_backward", mutates_args=())
def blocked_attention_backward(
    gradient: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Tensor | None,
    kept: Tensor,
    seeds: Tensor | None,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values; recomputes probabilities that were not kept."""
    queries_grad, keys_grad, values_grad = (torch.zeros_like(x) for x in (queries, keys, values))
    q, out_grad, q_grad = (_folded(x, keys) for x in (queries, gradient.contiguous(), queries_grad))
    k, v, k_grad, v_grad = (x.flatten(0, 1) for x in (keys, values, keys_grad, values_grad))
    for block in _blocks(q, starts, kept):
        probabilities = block.place if kept.numel() else block.probabilities(q, k)
        grad = block.take(out_grad)
        mask = None if seeds is None else block.kept_values(seeds, dropout, q)
        used = probabilities if mask is None else block.dropped(probabilities, mask, dropout)
        v_grad[:, block.keys].baddbmm_(used.mT, grad)
        grad = torch.bmm(grad, block.seen(v).mT)
        if mask is not None:
            grad = block.dropped(grad, mask, dropout)
        grad = torch._softmax_backward_data(grad, probabilities, -1, grad.dtype)
        k_grad[:, block.keys].baddbmm_(grad.mT, block.take(q), alpha=block.scale)
        block.put(q_grad, torch.baddbmm(q.new_zeros(()), grad, block.seen(k), beta=0, alpha=block.scale))
    return queries_grad, keys_grad, values_grad


class _Block(NamedTuple):
    """The queries of one product, and the keys that any of them attends to."""

    queries: slice
    keys: slice
    starts: Int[Tensor, "batch queries"] | None
    """The first key that each query attends to; None if all attend to the first of `keys`."""
    place: Float[Tensor, "folded rows keys"]
    """The output tensor of the block's probabilities."""
    scale: float

    def take(self, x: Float[Tensor, "folded group time dim"]) -> Float[Tensor, "folded rows dim"]:
        """The block's rows; those of heads that share a key-value head are concatenated."""
        return x[:, :, self.queries].flatten(1, 2)

    def seen(self, x: Float[Tensor, "folded time dim"]) -> Float[Tensor, "folded keys dim"]:
        """The rows of the block's keys, made contiguous: the product would copy them far more slowly."""
        return x[:, self.keys].contiguous()

    def put(self, x: Float[Tensor, "folded group time dim"], rows: Float[Tensor, "folded rows dim"]) -> None:
        """Writes the block's rows."""
        x[:, :, self.queries] = rows.view(len(x), x.shape[1], -1, x.shape[3])

    def probabilities(self, q: Tensor, k: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(dim)) over the keys that each query attends to."""
        scores = torch.baddbmm(self.bias(q), self.take(q), self.seen(k).mT, alpha=self.scale)
        return torch.softmax(scores, -1, out=self.place)

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
            bias = bias.masked_fill(
                torch.arange(first, stop, device=q.device) < self.starts[..., None], -math.inf
            )
        if heads * q.shape[1] == 1:
            return bias
        return bias[:, None, None].expand(-1, heads, q.shape[1], -1, -1).flatten(0, 1).flatten(1, 2)


@lru_cache(maxsize=32)
def _causal_bias(
    queries: int, keys: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "1 queries keys"]:
    """0 where one of the last `queries` of `keys` tokens attends to a key, -inf elsewhere."""
    return torch.full((1, queries, keys), -math.inf, dtype=dtype, device=device).triu_(keys - queries + 1)


def _blocks(q: Tensor, starts: Tensor | None, kept: Tensor) -> Iterator[_Block]:
    """All blocks of queries; their probabilities are views of `kept` if it is not empty, else new tensors."""
    folded, group, time, dim = q.shape
    begins = range(0, time, QUERY_BLOCK)
    firsts, lasts = ([0] * len(begins),) * 2
    if starts is not None and starts.is_cuda:
        lasts = [time] * len(begins)  # skipping keys would make the CPU wait for the GPU
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
        place = kept[used : used + math.prod(shape)] if kept.numel() else q.new_empty(math.prod(shape))
        used += place.numel()
        own = None if starts is None or last <= first else starts[:, start:stop]
        yield _Block(slice(start, stop), slice(first, stop), own, place.view(shape), dim**-0.5)


def _folded(x: Tensor, keys: Tensor) -> Float[Tensor, "folded group time dim"]:
    """Batch and key-value heads as the first axis, the query heads that share one as the second."""
    return x.view(keys.shape[0] * keys.shape[1], -1, *x.shape[2:])


@blocked_attention.register_fake
def _results(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Tensor | None,
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
    kept: Tensor,
    seeds: Tensor | None,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(queries), torch.empty_like(keys), torch.empty_like(values)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    queries, keys, values, starts, _, seeds, ctx.dropout = inputs
    ctx.save_for_backward(queries, keys, values, starts, output[1], seeds)


def _backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *blocked_attention_backward(gradient, *ctx.saved_tensors, ctx.dropout), None, None, None, None


blocked_attention.register_autograd(_backward, setup_context=_save)
