"""Trains the rungs of a ladder, each once: here, or several at a time in processes of their own."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch

from camelid.base.errors import CamelidError
from camelid.recipes.data import TextData
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.recipe import save_recipe
from camelid.recipes.sweep import SweepRecipe
from camelid.recipes.training import Training
from camelid.scaling.ladder import Rung
from camelid.scaling.rates import transferred_rate
from camelid.train.stages import MODEL, pretrain

logger = logging.getLogger(__name__)

WARMUP = 0.05
"""Share of the updates in which the rate rises."""
SCHEDULE: Final = "cosine"
FLOOR = 0.05
"""How the rate falls then, and to which share of its peak."""
RUNGS = "rungs"
"""The subfolder of a sweep with the runs."""


def rung_recipe(
    recipe: SweepRecipe, rung: Rung, data: TextData, tokenizer: Path, prediction: Path | None = None
) -> PretrainRecipe:
    """The pretraining recipe of a rung: the sweep's settings, and the rate transferred to its width."""
    steps = rung.tokens // recipe.batch_tokens
    return PretrainRecipe(
        out=recipe.out / RUNGS / rung.name,
        data=data,
        tokenizer=tokenizer,
        model=rung.shape,
        training=Training(
            steps=steps,
            global_batch_tokens=recipe.batch_tokens,
            context_length=recipe.context_length,
            optimizer=recipe.optimizer,
            learning_rate=transferred_rate(recipe.learning_rate, recipe.base_width, rung.shape.hidden_size),
            schedule=SCHEDULE,
            min_learning_rate_ratio=FLOOR,
            warmup_fraction=WARMUP,
            dtype=recipe.dtype,
            compile=False,
            validate_every=steps,
            checkpoint_every=max(1, min(steps, 500)),
        ),
        prediction=prediction,
        seed=recipe.seed,
    )


def is_finished(recipe: PretrainRecipe) -> bool:
    """Whether the run has its model; a finished rung is never trained again."""
    return (recipe.out / MODEL).is_dir()


def train_rungs(recipes: Sequence[PretrainRecipe], parallel: int, folder: Path) -> None:
    """Trains those that are not finished; with `parallel` above 1 in that many processes at a time.

    The processes write their output to FOLDER/NAME.log. Ctrl-C stops all of them with their state saved.
    """
    left = [recipe for recipe in recipes if not is_finished(recipe)]
    logger.info(f"{len(recipes) - len(left)} of {len(recipes)} rungs are finished")
    if parallel == 1:
        for number, recipe in enumerate(left, 1):
            logger.info(f"\nrung {number} of {len(left)}: {recipe.out.name}")
            pretrain(recipe)
        return
    threads = threads_of(parallel)
    processes: list[subprocess.Popen[bytes]] = []

    def train(recipe: PretrainRecipe) -> None:
        written, log = folder / f"{recipe.out.name}.yaml", folder / f"{recipe.out.name}.log"
        save_recipe(recipe, written)
        words = [sys.executable, "-m", "camelid", "pretrain", str(written)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with log.open("ab") as file:
            # Of its own session: Ctrl-C reaches it once, from here, so that it can save its state.
            process = subprocess.Popen(
                words, stdout=file, stderr=file, env=environment, start_new_session=True
            )
            processes.append(process)
            if code := process.wait():
                last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
                name = recipe.out.name
                raise CamelidError(f"rung {name} failed with exit code {code}; the end of {log}: {last}")
        logger.info(f"finished {recipe.out.name}")

    with ThreadPoolExecutor(parallel) as pool:
        try:
            # The longest first, so that none is left over at the end.
            for _ in pool.map(train, sorted(left, key=_cost, reverse=True)):
                pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                if process.poll() is None:
                    process.terminate()  # SIGINT may be ignored, in a script's background jobs
            raise


def threads_of(parallel: int) -> int:
    """The threads of each of so many processes."""
    return max(1, torch.get_num_threads() // parallel)


@contextmanager
def threads_each(parallel: int) -> Iterator[None]:
    """Computes with the threads of one of so many processes meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads_of(parallel))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cost(recipe: PretrainRecipe) -> int:
    return recipe.training.total_steps * recipe.model.hidden_size**2
