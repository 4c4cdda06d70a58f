"""The sweep that a law comes from, and whether its losses hold for the context and vocabulary of a run."""

import logging
from pathlib import Path
from typing import NamedTuple

from camelid.base.json import read_table
from camelid.recipes.recipe import load_recipe
from camelid.recipes.sweep import SweepRecipe
from camelid.recipes.yaml import parse_yaml
from camelid.runs.run import RECIPE
from camelid.scaling.saved import FITTED, fit_file
from camelid.train.stages import MODEL
from camelid.workflows.sweep.rungs import RUNGS

logger = logging.getLogger(__name__)


class Sweep(NamedTuple):
    """A sweep's folder and recipe."""

    folder: Path
    recipe: SweepRecipe

    @property
    def vocabularies(self) -> set[int]:
        """The vocabulary size of its models, and the size asked for if its tokenizer was learned: that may
        have fewer entries."""
        configs = self.folder.glob(f"{RUNGS}/*/{MODEL}/config.json")
        found = {int(read_table(path)["vocab_size"]) for path in configs}
        return found | ({self.recipe.vocab_size} if self.recipe.tokenizer is None else set())


def sweep_of(law: Path) -> Sweep | None:
    """The sweep whose folder, or whose fit's folder, `law` is; None for other fits."""
    fitted = fit_file(law).resolve().parent
    folder = fitted.parent
    path = folder / RECIPE
    if fitted.name != FITTED or not path.is_file() or parse_yaml(path).values.get("stage") != "scale sweep":
        return None
    return Sweep(folder, load_recipe(SweepRecipe, path))


def warn_of_other_losses(sweep: Sweep, vocabulary: int, context: int) -> None:
    """Warns where a run has another context or vocabulary than its law's sweep: nats per token differ."""
    remedy = "its losses are others; give both the same, here or in another sweep"
    if context != (measured := sweep.recipe.context_length):
        logger.warning(f"the law's sweep has --context-length {measured}, and this run {context}: {remedy}")
    sizes = sweep.vocabularies
    if sizes and vocabulary not in sizes:
        tokenizer = sweep.recipe.tokenizer or sweep.folder / "tokenizer"
        logger.warning(
            f"the law's sweep has a vocabulary of {min(sizes)} entries (--tokenizer {tokenizer}), and this "
            f"run {vocabulary}: {remedy}"
        )
