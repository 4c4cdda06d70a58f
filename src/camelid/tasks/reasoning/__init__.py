"""Data sets of questions to reason about, by name."""

from collections.abc import Mapping

from camelid.tasks.item import Item
from camelid.tasks.reasoning import arithmetic, big_bench_hard, commonsense, game_of_24, scan, symbolic
from camelid.tasks.reasoning.dataset import Dataset

__all__ = ["DATASETS", "WITH_TASK", "Dataset", "dataset_named", "generated_named"]

DATASETS: Mapping[str, Dataset] = {
    each.name: each
    for each in (
        *arithmetic.DATASETS,
        *commonsense.DATASETS,
        *symbolic.DATASETS,
        scan.SCAN,
        game_of_24.GAME_OF_24,
    )
}


WITH_TASK = {"bbh": big_bench_hard.big_bench_hard}
"""Data sets of several tasks, one of which is named after a slash: `bbh/navigate`."""


def dataset_named(name: str) -> Dataset | None:
    """The data set with this name, or None if there is none; raises `WrongCall` for an unknown task of it."""
    first, _, setting = name.partition("/")
    return WITH_TASK[first](setting) if first in WITH_TASK else DATASETS.get(name)


def generated_named(name: str) -> tuple[Dataset, list[Item]] | None:
    """The data set and the questions that a name such as `coin_flip/4` stands for, or None if it has no
    setting or stands for no generated task; raises `WrongCall` for an invalid setting."""
    first, stroke, setting = name.partition("/")
    if not stroke or first not in symbolic.GENERATORS:
        return None
    return DATASETS[first], symbolic.generated(DATASETS[first], setting)
