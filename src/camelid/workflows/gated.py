"""Stages that end with the parity gate, and `camelid check`, which can also run only that gate."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from camelid.base.errors import WrongCall
from camelid.engine.answering import student_answers
from camelid.formats.exporting import Layout
from camelid.formats.exporting import export as export_model
from camelid.formats.gguf.writing import Precision
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_spec
from camelid.formats.hugging_face.peft_folder import is_adapter
from camelid.formats.load import load_tokenizer
from camelid.recipes.tune import TuneRecipe
from camelid.tasks.reward_function import SECONDS
from camelid.workflows.check import check as check_paths
from camelid.workflows.parity import cases_for, parity
from camelid.workflows.reward_check import check_reward

logger = logging.getLogger(__name__)


def tune(recipe: TuneRecipe) -> None:
    """Tunes a model, then compares it with itself in the engine; see `train.stages.tune`."""
    from camelid.train.stages import tune as tune_model  # takes seconds, which `check` would wait for

    made = tune_model(recipe, answers=student_answers)
    if recipe.lora.rank is None:
        _compare(made)
    elif recipe.lora.base == "nf4":
        logger.info("parity is not checked: while the adapter was trained, its base had 4 bits")
    else:
        _compare(recipe.model, adapter=made)


def export(
    model: str | Path,
    out: Path,
    to: Layout = "gguf",
    dtype: Precision = "float16",
    verify: bool = False,
    base: str | None = None,
) -> None:
    """Exports a model, then compares it with the export as it is read back; see `formats.exporting`.

    An adapter's export is not compared: nothing here reads one.
    """
    export_model(model, out, to, dtype, verify, base)
    if not is_adapter(resolve(model)):
        _compare(model, [out])


def check(
    paths: Sequence[str],
    model: str | None = None,
    context_length: int = 2048,
    skip_bad_rows: bool = False,
    items: Sequence[Path] = (),
    show: int = 0,
    parity_of: str | None = None,
    exports: Sequence[str] = (),
    drift: float | None = None,
    reward: str | None = None,
    reward_seconds: float = SECONDS,
) -> None:
    """The gates on these paths, see `workflows.check`.

    Of a model named in `parity_of`, the parity gate; of a `reward`, what it pays for.
    """
    if reward is not None:
        check_reward(reward, paths, reward_seconds)
        return
    if parity_of is not None:
        parity(parity_of, [*paths, *exports], drift)
        return
    if exports or drift is not None:
        raise WrongCall("--against and --drift are for --parity MODEL")
    check_paths(paths, model, context_length, skip_bad_rows, items, show)


def _compare(model: str | Path, exports: Sequence[Path] = (), adapter: Path | None = None) -> None:
    """`parity`, where there is something to compare; says why where not."""
    if int(os.environ.get("RANK", "0")):
        return  # another process of torchrun does it, once it has written the model
    folder = resolve(model)
    spec = read_spec(folder)
    if spec.encoder_layers or not cases_for(load_tokenizer(folder, adapter), spec.context_length):
        why = "it is an encoder-decoder" if spec.encoder_layers else "no prompt fits into its context"
        logger.info(f"parity of {folder}: not checked, because {why}")
        return
    parity(folder, exports, adapter=adapter)
