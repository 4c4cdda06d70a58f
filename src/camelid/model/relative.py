"""T5's relative positions: a learned bias per head for each bucket of distances."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from camelid.model.spec import RelativeBuckets


def bucket_of(
    distances: Int[Tensor, "*shape"], positions: RelativeBuckets, *, bidirectional: bool
) -> Int[Tensor, "*shape"]:
    """The bucket of each distance, key position minus query position (Raffel et al. 2020, section 2.1).

    Short distances have one bucket each, longer ones share buckets on a logarithmic scale up to
    `most_distance`. bidirectional: half of the buckets are for keys ahead; otherwise these count as distance
    0.
    """
    count, offset = positions.buckets, torch.zeros_like(distances)
    if bidirectional:
        count //= 2
        offset = (distances > 0).long() * count
        distances = distances.abs()
    else:
        distances = (-distances).clamp_min(0)
    exact = count // 2
    share = torch.log(distances.clamp_min(1).float() / exact) / math.log(positions.most_distance / exact)
    shared = (exact + (share * (count - exact)).long()).clamp_max(count - 1)
    return offset + torch.where(distances < exact, distances, shared)


class RelativeBias(nn.Module):
    """The bias table of one stack, added to the attention scores of all its layers."""

    def __init__(self, positions: RelativeBuckets, num_heads: int, *, bidirectional: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(positions.buckets, num_heads))
        self.positions, self.bidirectional = positions, bidirectional

    def forward(
        self, queries: Int[Tensor, "*batch time"], keys: Int[Tensor, " past"]
    ) -> Float[Tensor, "*batch heads time past"]:
        """The bias for every pair of query and key positions."""
        buckets = bucket_of(keys - queries[..., None], self.positions, bidirectional=self.bidirectional)
        return F.embedding(buckets, self.weight).movedim(-1, -3)
