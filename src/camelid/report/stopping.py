"""When a run should have stopped, from its validation losses."""

from collections.abc import Mapping, Sequence
from typing import Any

from camelid.report.values import Section

RISE = 0.005
"""Relative rise of the validation loss above its lowest that is more than noise."""
LEAST = 4
"""Validations from which on anything is said."""


def when_to_stop(records: Sequence[Mapping[str, Any]]) -> tuple[Section, ...]:
    """Whether the validation loss had passed its lowest at the end, and what the last updates brought.

    The early stop of Kaplan et al. 2020 (arXiv:2001.08361, section 5.3): limited text is used up where the
    loss on held-out text stops falling while that on the text itself still falls.
    """
    rows = [(row["step"], row["validation_loss"]) for row in records if "validation_loss" in row]
    if len(rows) < LEAST:
        return ()
    (best_step, best), (last_step, last) = min(rows, key=lambda row: row[1]), rows[-1]
    before_step, before = rows[-1 - max(1, len(rows) // 4)]
    rate = (before / last - 1) / max(1, last_step - before_step) * 100
    if last > (1 + RISE) * best:
        text = (
            f"The validation loss was lowest at step {best_step:,} ({best:.4f}) and has risen by "
            f"{last / best - 1:.1%} since: the text is used up. Stop there, or give more text or a "
            "smaller model."
        )
    elif rate > 0:
        text = (
            f"The validation loss was still falling at the end: by {before / last - 1:.1%} over the last "
            f"{last_step - before_step:,} updates, {rate:.2g} % for 100. It has not passed its lowest."
        )
    else:
        text = (
            f"The validation loss has not fallen since step {before_step:,}, nor risen by more than "
            f"{RISE:.1%} above its lowest: further updates of this schedule bring nothing."
        )
    return (Section("When to stop", text),)
