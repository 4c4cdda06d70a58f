"""How a policy rates held-out comparisons, measured while it trains."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from camelid.align.dpo import dpo_losses, log_ratios
from camelid.align.preference_rows import PackedPairs, Pair, target_logprobs
from camelid.align.reward_quality import ahead
from camelid.data.rows.batches import Batch
from camelid.model.transformer import Transformer
from camelid.recipes.align import DPOSettings
from camelid.train.fit import Measure, Setup
from camelid.train.validation import evaluating, share_of_epoch


@dataclass(frozen=True)
class PreferenceQuality:
    """Means over held-out pairs; rewards are beta log(policy / reference) (section 4 of the paper)."""

    measures: dict[str, float]


def preference_quality(
    pairs: Sequence[Pair], context: int, settings: DPOSettings
) -> Measure[Transformer] | None:
    """Measures the loss, how often the better answer has the higher reward, and both rewards."""
    if not pairs:
        return None
    rows = PackedPairs(pairs, context, 0, 0)

    @torch.no_grad()
    def measure(model: Transformer, setup: Setup) -> PreferenceQuality:
        chosen, rejected = [], []
        with evaluating(model):
            for batch in share_of_epoch(rows, setup.micro_batch_size, setup.group):
                placed = batch.to(setup.group.device)
                assert isinstance(placed, Batch)
                logprobs = target_logprobs(model, placed, setup.dtype)
                better, worse = log_ratios(logprobs, placed, mean=settings.length_normalised)
                chosen.append(better.cpu())
                rejected.append(worse.cpu())
        shares = setup.group.collect_by_rows((torch.cat(chosen), torch.cat(rejected)))
        better, worse = (torch.cat(parts) for parts in zip(*shares, strict=True))
        return PreferenceQuality(
            {
                "loss": dpo_losses(better, worse, settings).mean().item(),
                "better_first": float(ahead((better - worse).double().numpy()).mean()),
                "reward_of_better": settings.beta * better.mean().item(),
                "reward_of_worse": settings.beta * worse.mean().item(),
            }
        )

    return measure
