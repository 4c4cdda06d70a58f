"""When a run should have stopped, from its validation losses."""

from collections.abc import Mapping, Sequence
from typing import Any

from camelid.report.values import Section

RISE = 0.005
"""Relative rise of the validation loss above its lowest that is more than noise."""
LEAST = 4
"""Validations from which on anything is said."""


def when_to_stop(records: Sequence[Mapping[str, Any]], data: str = "text") -> tuple[Section, ...]:
    """Whether the validation loss had passed its lowest at the end, and what the last updates brought.

    The early stop of Kaplan et al. 2020 (arXiv:2001.08361, section 5.3): limited text is used up where the
    loss on held-out text stops falling while that on the text itself still falls. data: what it learns from.
    """
    rows = [(row["step"], row["validation_loss"]) for row in records if "validation_loss" in row]
    if len(rows) < LEAST:
        return ()
    (best_step, best), (last_step, last) = min(rows, key=lambda row: row[1]), rows[-1]
    before_step, before = rows[-1 - max(1, len(rows) // 4)]
    fall, updates = 1 - last / before, max(1, last_step - before_step)
    if last > (1 + RISE) * best:
        why = _why_it_rose(records, [step for step, _ in rows], best_step, data)
        text = (
            f"The validation loss was lowest at step {best_step:,} ({best:.4f}) and has risen by "
            f"{last / best - 1:.1%} since. {why}"
        )
    elif fall > 0:
        lowest = "It has not passed its lowest."
        if best < last:
            lowest = f"It was lowest at step {best_step:,} ({best:.4f}), within {RISE:.1%} of the end."
        text = (
            f"The validation loss was still falling at the end: by {fall:.1%} over the last {updates:,} "
            f"updates, {fall / updates * 100 * 100:.2g} % per 100. {lowest}"
        )
    else:
        text = (
            f"The validation loss has not fallen since step {before_step:,}, nor risen by more than "
            f"{RISE:.1%} above its lowest: further updates of this schedule bring nothing."
        )
    return (Section("When to stop", text),)


def _why_it_rose(
    records: Sequence[Mapping[str, Any]], validated: Sequence[int], best_step: int, data: str
) -> str:
    """What to do about a validation loss that rose: it depends on whether the training loss still fell."""
    losses = [(row["step"], row["loss"]) for row in records if row.get("loss") is not None]

    def mean(after: int, until: int) -> float | None:
        inside = [loss for step, loss in losses if after < step <= until]
        return sum(inside) / len(inside) if inside else None

    # Between two validations each: up to the lowest (after it, if it is the first), and at the end.
    place = max(1, validated.index(best_step))
    then, now = mean(validated[place - 1], validated[place]), mean(validated[-2], validated[-1])
    if then is None or now is None:
        return f"Stop there, or give more {data} or a smaller model."
    if now >= then:
        return (
            f"The training loss rose too, from {then:.4f} to {now:.4f}, so training itself got worse: lower "
            "the learning rate."
        )
    return (
        f"The training loss still fell, from {then:.4f} to {now:.4f}, so repeats of the same {data} no "
        "longer help (or, within a first epoch, the held-out rows are of another kind). Stop there, or give "
        f"more {data} or a smaller model."
    )
