"""What is reported of a rollout: its rewards, its answers, and how far the policy is from its reference."""

from collections.abc import Sequence

from torch import Tensor

from camelid.align.columns import ENTROPY, KL, OLD, REFERENCE, SAMPLED
from camelid.align.kl import k1, k2, k3
from camelid.align.questions import Asked
from camelid.data.rows.batches import Batch
from camelid.lm.interface import Completion


def summary(
    asked: Sequence[Asked], answers: Sequence[Completion], rewards: Tensor, scored: Batch
) -> dict[str, float]:
    """The metrics of a rollout by name; KL divergences in nats per answer, entropy in nats per token.

    rewards: [questions, group]; single answers to questions count as one group. right, parsed and
    right_if_parsed come from the tasks' graders, also where the reward does not: right = parsed x
    right_if_parsed divides what is gained into format and answers.
    """
    extra, answered = scored.extra, scored.weights > 0
    log_ratio = (extra[OLD] - extra[REFERENCE]) * answered
    count, tokens = len(answers), int(answered.sum())
    groups = rewards if rewards.shape[1] > 1 else rewards.view(1, -1)
    return {
        "reward": float(rewards.mean()),
        "reward_spread": float(rewards.std(correction=0)),
        "groups_without_variance": float((groups.std(1, correction=0) == 0).float().mean()),
        "cut": sum(one.finish_reason == "length" for one in answers) / count,
        "answer_tokens": tokens / count,
        "entropy": float((extra[ENTROPY] * answered).sum()) / tokens,
        "kl": float((extra[KL] * answered).sum()) / count,
        **{
            f"kl_{name}": float((estimate(log_ratio) * answered).sum()) / count
            for name, estimate in (("k1", k1), ("k2", k2), ("k3", k3))
        },
        "sampler_difference": float((extra[OLD] - extra[SAMPLED])[answered].abs().max()),
        **grades(asked, [one.text for one in answers]),
    }


def grades(asked: Sequence[Asked], texts: Sequence[str]) -> dict[str, float]:
    """The shares of answers that are right, that can be read, and that are right among those; nothing of
    prompts without a grader."""
    graded = (each.grade(text) for each, text in zip(asked, texts, strict=True))
    found = [grade for grade in graded if grade is not None]
    if not found:
        return {}
    parsed = [grade for grade in found if grade.extracted is not None]
    return {
        "right": sum(grade.value for grade in found) / len(found),
        "parsed": len(parsed) / len(found),
        "right_if_parsed": sum(grade.value for grade in parsed) / max(1, len(parsed)),
    }
