"""The report of a run of best-of-n: rewards and kept answers of each round, from its rounds.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from camelid.base.errors import CamelidError
from camelid.base.json import read_json, read_table
from camelid.report.training import run_report
from camelid.report.values import Cell, Curve, LinePlot, Report, Section, Table
from camelid.runs.run import IDENTITY

ROUNDS = "rounds.json"
MEASURES = {
    "reward": "reward",
    "best_reward": "best of n",
    "held_out_reward": "held out",
    "held_out_best_reward": "held out, best of n",
}
"""The measures of a round with their names on the page."""
Rounds = Sequence[Mapping[str, float]]


def best_of_n_report(folder: Path) -> Report:
    """The page of a run; raises `CamelidError` before its first round is sampled."""
    rounds: Rounds = read_json(folder / ROUNDS) if (folder / ROUNDS).is_file() else []
    if not rounds:
        raise CamelidError(f"{folder / ROUNDS} has no round yet; try again after the first is sampled")
    n = read_table(folder / IDENTITY)["recipe"]["samples"]
    columns = ("model", *(name for key, name in MEASURES.items() if _measured(rounds, key)), "kept answers")
    caption = (
        f"Means over the questions: of the rewards of all {n} answers, and of the best of them. "
        "Held-out questions are never tuned on. The next model is tuned on the kept answers of a row."
    )
    section = Section(
        "Rounds",
        figures=(LinePlot("Rewards", "rounds of tuning", "mean reward", _curves(rounds)),),
        tables=(Table("", columns, tuple(_row(rounds, at) for at in range(len(rounds))), caption),),
    )
    tuned = sum("kept" in each for each in rounds)
    facts = {"samples of each question": str(n), "rounds": str(tuned)}
    return run_report(folder, _summary(rounds), facts, (section,))


def _measured(rounds: Rounds, key: str) -> bool:
    return any(key in each for each in rounds)


def _curves(rounds: Rounds) -> tuple[Curve, ...]:
    places = {key: [at for at, each in enumerate(rounds) if key in each] for key in MEASURES}
    return tuple(
        Curve(MEASURES[key], found, [rounds[at][key] for at in found])
        for key, found in places.items()
        if found
    )


def _row(rounds: Rounds, at: int) -> tuple[Cell, ...]:
    """The measures of the model after so many rounds of tuning."""
    name = "first" if at == 0 else f"after round {at}"
    values = (rounds[at].get(key) for key in MEASURES if _measured(rounds, key))
    return (name, *values, rounds[at].get("kept"))


def _summary(rounds: Rounds) -> str:
    key = "held_out_reward" if _measured(rounds, "held_out_reward") else "reward"
    where = "of held-out questions" if key.startswith("held_out") else "of the questions tuned on"
    values = [each[key] for each in rounds if key in each]
    if len(values) < 2:
        return f"The mean reward {where} is {values[0]:.3f} before tuning."
    return f"The mean reward {where} went from {values[0]:.3f} to {values[-1]:.3f}."
