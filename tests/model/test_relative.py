"""T5's buckets against the published code's values, worked out by hand in the paper's formula."""

import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from camelid.model.relative import bucket_of
from camelid.model.spec import RelativeBuckets


@pytest.mark.parametrize(
    ("distance", "bucket"),
    [(-8, 8), (-12, 9), (-16, 10), (-32, 12), (-64, 14), (-128, 15), (8, 24), (128, 31), (0, 0)],
)
def test_in_the_encoder(distance, bucket):
    assert bucket_of(torch.tensor(distance), RelativeBuckets(), bidirectional=True) == bucket


@pytest.mark.parametrize(
    ("distance", "bucket"), [(-16, 16), (-32, 21), (-64, 26), (-113, 31), (-500, 31), (-3, 3), (7, 0)]
)
def test_in_the_decoder(distance, bucket):
    assert bucket_of(torch.tensor(distance), RelativeBuckets(), bidirectional=False) == bucket


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("positions", [RelativeBuckets(), RelativeBuckets(8, 20), RelativeBuckets(64, 300)])
def test_every_distance_as_in_transformers(positions, bidirectional):
    distances = torch.arange(-700, 700)
    theirs = T5Attention._relative_position_bucket(
        distances, bidirectional, positions.buckets, positions.most_distance
    )
    assert torch.equal(bucket_of(distances, positions, bidirectional=bidirectional), theirs)
