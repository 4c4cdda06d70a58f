"""Scaled dot-product attention, causal within documents and over a cache (arXiv:1706.03762, eq. 1)."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


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
