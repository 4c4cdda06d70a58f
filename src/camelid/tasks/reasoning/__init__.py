"""Data sets of questions to reason about, by name."""

from collections.abc import Mapping

from camelid.tasks.reasoning.arithmetic import GSM8K
from camelid.tasks.reasoning.dataset import Dataset
from camelid.tasks.reasoning.symbolic import LAST_LETTER

DATASETS: Mapping[str, Dataset] = {each.name: each for each in (GSM8K, LAST_LETTER)}
