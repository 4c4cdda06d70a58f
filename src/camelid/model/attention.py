"""Scaled dot-product attention, causal within documents and over a cache (arXiv:1706.03762, eq. 1).

Without a cache, rows are computed in blocks of queries on a CPU (`camelid.model.blocked_attention`). On other
devices, and with a cache, torch's own function is used; except with dropout, because its masks come from
torch's global generator.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from camelid.model.blocked_attention import blocked_attention
from camelid.model.dropout import Seeds, Site, dropped

LONGEST_KEPT = 1024
"""Rows up to this length keep their probabilities for the backward pass; longer ones recompute them."""


def attention(
    queries: Float[Tensor, "batch time heads dim"],
    keys: Float[Tensor, "batch past kv_heads dim"],
    values: Float[Tensor, "batch past kv_heads dim"],
    documents: Int[Tensor, "batch time"] | None = None,
    cache_mask: Float[Tensor, "#batch 1 time past"] | None = None,
    *,
    shared: Int[Tensor, "batch time"] | None = None,
    window: int | None = None,
    dropout: float = 0.0,
    seeds: Seeds | None = None,
) -> Float[Tensor, "batch time heads dim"]:
    """softmax(q k^T / sqrt(dim)) v for each head; heads / kv_heads query heads share a key-value head.

    Without `cache_mask`, keys belong to the same tokens, and a query attends to its own document up to
    itself, and before it to the beginning that it shares (`shared_keys`), at most to the last `window`
    tokens; with `seeds`, a share `dropout` of the probabilities is dropped. With `cache_mask`, keys come from
    a cache, see `past_mask`.
    """
    q, k, v = (x.transpose(1, 2) for x in (queries, keys, values))
    mixed: Tensor
    seeds = seeds if dropout and cache_mask is None else None
    if cache_mask is None and (queries.device.type == "cpu" or seeds is not None):
        keep = torch.is_grad_enabled() and q.requires_grad and q.shape[2] <= LONGEST_KEPT
        starts, beginnings = _starts(documents, window, q), _beginnings(documents, shared, window)
        mixed, _ = blocked_attention(
            q.contiguous(), k.contiguous(), v.contiguous(), starts, beginnings, keep, seeds, dropout
        )
    else:
        limited = cache_mask is None and (documents is not None or window is not None)
        mask = causal_mask(q, documents, window, shared) if limited else cache_mask
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
    shared: Int[Tensor, "batch time"] | None = None,
) -> Bool[Tensor, "#batch 1 time time"]:
    """The mask of `attention` without a cache: True where a query attends to a key of the same tokens."""
    keys = torch.arange(queries.shape[2], device=queries.device)
    before = (keys <= keys[:, None])[None]
    if (starts := _starts(documents, window, queries)) is None:
        return before[:, None]
    visible = keys >= starts[..., None]
    if (beginnings := _beginnings(documents, shared, window)) is not None:
        first, end = beginnings[..., None]
        visible |= (keys >= first) & (keys < end)
    return (before & visible)[:, None]


def past_mask(
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


def _beginnings(
    documents: Tensor | None, shared: Tensor | None, window: int | None
) -> Int[Tensor, "2 batch time"] | None:
    return None if documents is None or shared is None else shared_keys(documents, shared, window)


def shared_keys(
    documents: Int[Tensor, "batch time"], shared: Int[Tensor, "batch time"], window: int | None = None
) -> Int[Tensor, "2 batch time"]:
    """The first of the keys that each query sees of the beginning that its document shares, and their end.

    shared: how many tokens a token's document leaves out, because they are the first of the last document
    that leaves out none.
    """
    positions, own = torch.arange(documents.shape[1], device=documents.device), document_starts(documents)
    roots = torch.where(shared == 0, own, 0).cummax(-1).values
    first = roots
    if window is not None:
        first = roots + (shared + positions - own - window + 1).clamp_min(0)
    return torch.stack([first, roots + shared])


def document_starts(documents: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
    """The position at which each token's document begins; a document is a run of equal ids."""
    positions = torch.arange(documents.shape[1], device=documents.device)
    begins = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
    return torch.where(begins, positions, 0).cummax(-1).values
