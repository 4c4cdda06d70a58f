"""How well a reward model orders held-out answers: accuracy by length, and calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from camelid.align.comparisons import Candidates
from camelid.align.reward import ranking_losses, whole_text
from camelid.model.reward import last_values
from camelid.model.transformer import Transformer
from camelid.recipes.align import RewardSettings
from camelid.train.fit import Setup
from camelid.train.validation import evaluating

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
COLUMNS = ("better", "worse", "longer_by", "margins")
PARTS = 4
"""Parts of equal size that pairs are divided into by the difference of their lengths."""
CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class RewardQuality:
    """Held-out pairs: the rewards of both answers, how many characters longer the better one is, the
    margins."""

    better: Floats
    worse: Floats
    longer_by: Floats
    margins: Floats
    settings: RewardSettings

    @property
    def measures(self) -> dict[str, float]:
        """The values by the names that logs give them; longer_wins: the accuracy of preferring the longer
        one."""
        better, worse, margins = map(torch.from_numpy, (self.better, self.worse, self.margins))
        found = {
            "loss": float(ranking_losses(better, worse, margins, self.settings).mean()),
            "accuracy": float(self._right.mean()),
            "longer_wins": float(ahead(self.longer_by).mean()),
            "calibration_error": self.calibration_error,
            "reward": float(np.concatenate([self.better, self.worse]).mean()),
        }
        for name, chosen in (("longer", self.longer_by > 0), ("shorter", self.longer_by < 0)):
            if chosen.any():
                found[f"accuracy_if_better_is_{name}"] = float(self._right[chosen].mean())
        return found

    @property
    def _right(self) -> Floats:
        return ahead(self.better - self.worse)

    @property
    def calibration_error(self) -> float:
        """The mean distance of confidence and accuracy over the bins of confidence, weighted by pairs.

        The confidence in the answer with the higher reward is s(|r1 - r2|) (Guo et al., arXiv:1706.04599).
        """
        return expected_error(self.calibration())

    def calibration(self, chosen: Places | None = None) -> list[dict[str, float]]:
        """Accuracy beside the mean confidence, by confidence; chosen: of these pairs only."""
        if chosen is not None:
            return replace(self, **{name: getattr(self, name)[chosen] for name in COLUMNS}).calibration()
        confidence = 1 / (1 + np.exp(-np.abs(self.better - self.worse)))
        bins = np.clip(np.digitize(confidence, CONFIDENCES) - 1, 0, len(CONFIDENCES) - 2)
        return [
            {
                "pairs": int((bins == at).sum()),
                "confidence": float(confidence[bins == at].mean()),
                "accuracy": float(self._right[bins == at].mean()),
            }
            for at in range(len(CONFIDENCES) - 1)
            if (bins == at).any()
        ]

    def by_length(self) -> list[dict[str, float]]:
        """Accuracy and calibration error in parts of equal size, from the better answer shortest to the
        better answer longest."""
        order = np.argsort(self.longer_by, kind="stable")
        return [
            {
                "pairs": len(part),
                "longer_by_from": float(self.longer_by[part[0]]),
                "longer_by_to": float(self.longer_by[part[-1]]),
                "accuracy": float(self._right[part].mean()),
                "longer_wins": float(ahead(self.longer_by[part]).mean()),
                "calibration_error": expected_error(self.calibration(part)),
            }
            for part in np.array_split(order, PARTS)
            if len(part)
        ]


def expected_error(calibration: Sequence[Mapping[str, float]]) -> float:
    """The mean distance of confidence and accuracy over the bins, weighted by pairs."""
    pairs = sum(row["pairs"] for row in calibration)
    return sum(row["pairs"] * abs(row["confidence"] - row["accuracy"]) for row in calibration) / pairs


def ahead(differences: Floats) -> Floats:
    """1 where a difference is positive, one half where it is 0."""
    return np.where(differences == 0, 0.5, differences > 0)


def reward_quality(
    held_out: Sequence[Candidates], settings: RewardSettings, model: Transformer, setup: Setup
) -> RewardQuality:
    """Measures a model in training on prompts that it is not trained on."""
    texts = [whole_text(example).tolist() for each in held_out for example in each.examples]
    with evaluating(model):
        rewards = last_values(model, texts, setup.micro_batch_size, setup.dtype)
    return quality_of(held_out, rewards, settings)


def quality_of(
    held_out: Sequence[Candidates], rewards: Sequence[float], settings: RewardSettings
) -> RewardQuality:
    """The quality of rewards, which are those of all answers in order."""
    rows, first = [], 0
    for each in held_out:
        for one, other, margin in each.pairs:
            longer_by = each.characters[one] - each.characters[other]
            rows.append((rewards[first + one], rewards[first + other], longer_by, margin))
        first += len(each.examples)
    better, worse, longer_by, margins = np.array(rows, dtype=np.float64).T
    return RewardQuality(better, worse, longer_by, margins, settings)
