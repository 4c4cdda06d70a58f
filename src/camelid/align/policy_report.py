"""The report of a policy's training: curves of its alarms, where its gain comes from, and samples."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from camelid.align.alarms import AT_ONCE, Stats, gain, means, share_of_format, shown, updates
from camelid.align.held_out import AFTER, BEFORE, Answered, read_answers
from camelid.report.training import training_report
from camelid.report.values import Curve, LinePlot, Report, Section, Table
from camelid.runs.run import METRICS, read_metrics

SAMPLES = 10
CURVES = {
    "KL divergence from the reference": ("nats per answer", ("kl", "kl_k1", "kl_k2", "kl_k3")),
    "Right answers": ("share of samples", ("right", "parsed", "right_if_parsed")),
    "Spread of the reward": ("over all answers of a rollout", ("reward_spread",)),
    "Sampler against trainer": ("nats, the largest of a rollout", ("sampler_difference",)),
    "How far updates moved the policy from the sampler": ("nats per token", ("update_kl",)),
    "Entropy": ("nats per token", ("entropy",)),
    "Answer length": ("tokens", ("answer_tokens",)),
    "Shares": ("share", ("cut", "groups_without_variance", "clip_fraction", "value_clip_fraction")),
    "Explained variance of values": ("share", ("explained_variance",)),
    "KL penalty": ("per nat", ("kl_coefficient",)),
}
"""Titles with the unit and the metrics that they show."""


def policy_report(folder: Path) -> Report:
    """The page of a run of PPO or GRPO."""
    report, records = training_report(folder), updates(read_metrics(folder / METRICS))
    curves, *rest = report.sections
    figures = tuple(plot for plot in _plots(records) if plot.curves)
    sections = (
        replace(curves, figures=(*curves.figures, *figures)),
        *_alarms(records),
        *_gains(records),
        *samples(folder),
    )
    return replace(report, sections=(*sections, *rest))


def _plots(records: Sequence[Stats]) -> Iterator[LinePlot]:
    for title, (unit, names) in CURVES.items():
        rows = {name: [record for record in records if name in record] for name in names}
        curves = (
            Curve(name, [row["step"] for row in found], [row[name] for row in found], spread=True)
            for name, found in rows.items()
            if found
        )
        yield LinePlot(title, "step", unit, tuple(curves))
    watched = [row for row in records if row.get("right", row["reward"]) != row["reward"]]
    distance = [max(row["kl"], 0.0) ** 0.5 for row in watched]
    curves_of = {"reward": "reward", "right answers, by the grader": "right"}
    yield LinePlot(
        "The reward and the grader against the distance from the reference",
        "square root of the KL divergence",
        "mean",
        tuple(Curve(name, distance, [row[key] for row in watched]) for name, key in curves_of.items())
        if watched
        else (),
        caption="Over-optimised where the reward goes on rising and right answers do not (arXiv:2210.10760).",
    )


def _alarms(records: Sequence[Stats]) -> Iterator[Section]:
    rows: dict[str, tuple[str, int, str]] = {}
    for count in range(AT_ONCE + 1, len(records) + 1):
        for name, meaning in shown(records[:count]).items():
            rows.setdefault(name, (name, records[count - 1]["step"], meaning))
    table = Table("", ("alarm", "first at step", "meaning"), tuple(rows.values()))
    yield Section("Alarms", "" if rows else "None.", tables=(table,) if rows else ())


def _gains(records: Sequence[Stats]) -> Iterator[Section]:
    records = [record for record in records if "right" in record]
    if len(records) < 2:
        return
    first, now = means(records[:AT_ONCE]), means(records[-AT_ONCE:])
    names = {"reward": "reward", "right": "right", "parsed": "can be read", "right_if_parsed": "right if so"}
    rows = tuple((words, first[name], now[name], now[name] - first[name]) for name, words in names.items())
    part = share_of_format(first, now)
    yield Section(
        "Where the gain comes from",
        f"Right answers changed by {100 * gain(first, now):+.1f} points: {100 * part:+.1f} because more or "
        f"fewer answers can be read, {100 * (gain(first, now) - part):+.1f} because those that can be read "
        f"are right more or less often. Means of the first and the last {AT_ONCE} updates' samples.",
        tables=(Table("", ("mean over samples", "first", "last", "change"), rows),),
    )


def samples(folder: Path) -> Iterator[Section]:
    """Held-out answers of a run before and after, none if nothing was held out."""
    before, after = read_answers(folder / BEFORE), read_answers(folder / AFTER)
    if not after or len(before) != len(after):
        return
    pairs = list(zip(before, after, strict=True))
    highest = sorted(pairs, key=lambda pair: -pair[1].reward)[:SAMPLES]
    changed = sorted(pairs, key=lambda pair: -abs(pair[1].reward - pair[0].reward))[:SAMPLES]
    yield Section(
        "Samples",
        "Greedy answers to held-out questions before and after.",
        tables=(
            _side_by_side(f"The {len(highest)} highest rewards", highest),
            _side_by_side(f"The {len(changed)} most changed rewards", changed),
        ),
    )


def _side_by_side(title: str, pairs: Sequence[tuple[Answered, Answered]]) -> Table:
    columns = ("question", "before", "reward before", "after", "reward after", "right")
    rows = tuple(
        (old.question, old.answer, old.reward, new.answer, new.reward, new.right) for old, new in pairs
    )
    return Table(title, columns, rows)
