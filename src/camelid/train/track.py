"""Optional live training curves in TensorBoard and Weights & Biases."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from camelid.base.atomic import write_text_atomically
from camelid.base.errors import CamelidError
from camelid.recipes.training import TrackerName

Log = Callable[[Mapping[str, Any]], None]


@contextmanager
def tracked(trackers: tuple[TrackerName, ...], folder: Path) -> Iterator[Log]:
    """A function that logs the numbers of a metrics record to each tracker; folder: the run folder.

    Raises `CamelidError` if a tracker's package is not installed.
    """
    with ExitStack() as stack:
        logs = [stack.enter_context(_OPEN[name](folder)) for name in trackers]

        def log(record: Mapping[str, Any]) -> None:
            numbers = {key: value for key, value in record.items() if isinstance(value, int | float)}
            for give in logs:
                give(numbers)

        yield log


@contextmanager
def _tensorboard(folder: Path) -> Iterator[Log]:
    writer = _package("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder / "tensorboard"))

    def log(numbers: Mapping[str, Any]) -> None:
        for key, value in numbers.items():
            if key != "step":
                writer.add_scalar(key, value, numbers["step"])

    try:
        yield log
    finally:
        writer.close()


@contextmanager
def _wandb(folder: Path) -> Iterator[Log]:
    """Configured by W&B's own variables: WANDB_PROJECT, WANDB_MODE=offline and so on."""
    run = _package("wandb", "wandb").init(
        dir=str(folder), name=folder.name, id=_wandb_id(folder), resume="allow"
    )
    try:
        yield lambda numbers: run.log(dict(numbers), step=numbers["step"])
    finally:
        run.finish()


def _wandb_id(folder: Path) -> str:
    """The run's id, kept in its folder so that a resumed run continues its curve."""
    known = folder / "wandb-id.txt"
    if not known.exists():
        write_text_atomically(known, str(import_module("wandb").util.generate_id()))
    return known.read_text(encoding="utf-8")


def _package(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise CamelidError(
            f"training.track needs {package}, which is not installed: pip install 'camelid[track]'"
        ) from error


_OPEN: Mapping[TrackerName, Callable[[Path], Any]] = {"tensorboard": _tensorboard, "wandb": _wandb}
