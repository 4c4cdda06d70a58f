"""The size of the model of a pretraining run."""

from pathlib import Path

from camelid.base.json import read_table
from camelid.recipes.model_shape import ModelShape
from camelid.runs.run import IDENTITY


def parameters_of(folder: Path) -> int | None:
    """The parameters of the run's model; None before the run has finished."""
    config = folder / "model" / "config.json"
    if not config.is_file():
        return None
    shape = ModelShape.model_validate(read_table(folder / IDENTITY)["recipe"]["model"])
    return shape.spec(read_table(config)["vocab_size"]).parameter_count()
