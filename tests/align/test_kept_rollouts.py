"""Rollouts that a checkpoint may go on with are kept, and no others."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from camelid.align.rollouts import Rollouts
from camelid.data.rows.batches import Batch
from camelid.recipes.rollouts import PPOSettings
from camelid.runs.run import CHECKPOINTS


def test_a_rollout_is_kept_until_no_checkpoint_needs_it(tmp_path: Path) -> None:
    folder = tmp_path / "rollouts"
    learning: Any = SimpleNamespace(settings=PPOSettings(epochs=2, minibatches=2))
    none: Any = None
    rollouts = Rollouts(none, (), none, none, learning, none, folder, 0)
    batch = Batch(*(torch.zeros(1, 1) for _ in range(5)))

    def kept() -> list[int]:
        return sorted(int(path.stem) for path in folder.iterdir())

    for number in range(4):
        rollouts._keep(number, batch)
    assert kept() == [0, 1, 2, 3]  # without a checkpoint
    for step in (6, 100):
        (tmp_path / CHECKPOINTS / f"step-{step:08d}").mkdir(parents=True)
    for number in range(4, 9):
        rollouts._keep(number, batch)
    assert kept() == [*range(1, 9)]  # step 6 is within rollout 1
    (tmp_path / CHECKPOINTS / "step-00000006").rmdir()
    rollouts._keep(26, batch)
    assert kept() == [26]
