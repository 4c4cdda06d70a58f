"""Extra columns of a batch follow their rows wherever the others go."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from camelid.base.errors import WrongCall
from camelid.data.rows.batches import Batch, batches, collate
from camelid.data.rows.packing import Row
from camelid.data.rows.pairs import pair

TIME = 5


def row(number: int) -> Row:
    """A row that carries a value for each token and one for the whole, both of which name the row."""
    ids = np.full(TIME, number, dtype=np.int64)
    extra = {
        "old_logprobs": np.arange(TIME, dtype=np.float32) + 10 * number,
        "advantages": np.float32(-number).reshape(()),
    }
    return Row(ids, ids, np.ones(TIME, dtype=np.float32), np.zeros_like(ids), np.arange(TIME), extra)


class Rows:
    context, per_epoch, digest = TIME, 8, ""

    def __getitem__(self, index: int) -> Row:
        return row(index)


def belongs(batch: Batch) -> bool:
    """Whether the extra columns are those of the rows that the tokens name."""
    numbers = batch.tokens[:, 0]
    old = torch.stack([torch.arange(TIME) + 10.0 * number for number in numbers])
    return torch.equal(batch.extra["old_logprobs"], old) and torch.equal(
        batch.extra["advantages"], -numbers.float()
    )


def test_extra_columns_are_collated_with_their_rows():
    batch = collate([row(3), row(1), row(7)])
    assert batch.extra["old_logprobs"].shape == (3, TIME)
    assert batch.extra["advantages"].tolist() == [-3.0, -1.0, -7.0]
    assert belongs(batch)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_micro_batches_take_their_share_of_the_extra_columns(size):
    batch = collate([row(number) for number in (4, 2, 9, 6, 5)])
    parts = batch.split(size)
    assert [len(part.tokens) for part in parts] == [min(size, 5 - start) for start in range(0, 5, size)]
    assert all(belongs(part) for part in parts)
    for name, column in batch.extra.items():
        assert torch.equal(torch.cat([part.extra[name] for part in parts]), column)


def test_extra_columns_go_to_the_device_of_the_others():
    batch = collate([row(1), row(2)]).to("meta")
    assert {column.device.type for column in (batch.tokens, *batch.extra.values())} == {"meta"}


def test_each_process_gets_the_extra_columns_of_its_rows():
    whole = next(batches(Rows(), 4, 1))
    parts = [next(batches(Rows(), 4, 1, rank, 2)) for rank in range(2)]
    assert all(belongs(part) for part in parts)
    for name, column in whole.extra.items():
        assert torch.equal(torch.cat([part.extra[name] for part in parts]), column)


def test_extra_columns_of_pairs_are_padded_to_the_longest_target():
    rows = [
        replace(
            pair([5, 1], targets, 0),
            extra={"old_logprobs": np.ones(len(targets), np.float32), "advantages": np.array(0.5)},
        )
        for targets in ([7, 1], [7, 8, 9, 1])
    ]
    batch = collate(rows)
    assert batch.extra["old_logprobs"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch.extra["advantages"].tolist() == [0.5, 0.5]
    assert [part.extra["old_logprobs"].tolist() for part in batch.split(1)] == [
        [[1, 1, 0, 0]],
        [[1, 1, 1, 1]],
    ]


def test_rows_with_other_extra_columns_are_refused():
    plain = replace(row(1), extra={})
    with pytest.raises(WrongCall, match=r"\['advantages', 'old_logprobs'\] and \[\]"):
        collate([row(0), plain])
    with pytest.raises(WrongCall, match=r"\[\] and \['advantages', 'old_logprobs'\]"):
        collate([plain, row(0)])
