"""`camelid align --method verifier`: from questions to a verifier of a model's solutions."""

import logging
from functools import partial
from pathlib import Path

from camelid.align.solutions import solve
from camelid.align.verifier import verifier_loss
from camelid.align.verifier_quality import verifier_quality
from camelid.align.verifier_rows import VerifierData, verifier_data
from camelid.base.atomic import atomic_folder
from camelid.base.errors import CamelidError
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_spec
from camelid.formats.load import check_tokenizer_fits, load_model, special_ids
from camelid.formats.values import save_value_model
from camelid.model.values import ValueModel, with_reserved_token
from camelid.recipes.align import AlignRecipe
from camelid.report.page import write_report
from camelid.report.training import training_report
from camelid.runs.null_run import shared_run
from camelid.runs.provenance import Parent
from camelid.runs.run import Run
from camelid.text.tokenizer import Tokenizer, load_tokenizer
from camelid.train.fit import fit_rows, rows_of_update
from camelid.train.parallel import ProcessGroup
from camelid.train.stages import MODEL, check_context
from camelid.train.tensor_parallel import tensor_plan

logger = logging.getLogger(__name__)


def train_verifier(recipe: AlignRecipe, group: ProcessGroup) -> Path:
    """Samples solutions, labels them and trains a verifier on them; returns its folder.

    Both parts go on where a stopped call left them.
    """
    base = resolve(recipe.model)
    rows_of_update(recipe.training, group.data_size)
    spec, tokenizer = read_spec(base), load_tokenizer(base)
    tensor_plan(spec, group.tensor_size)
    if spec.encoder_layers:
        raise CamelidError(f"{base} is an encoder-decoder; verifiers are trained from decoders")
    check_context(recipe.training.context_length, base, spec)
    check_tokenizer_fits(spec, tokenizer)
    questions = group.from_main(partial(solve, recipe))
    data = verifier_data(recipe, questions, tokenizer, spec)
    labels = [solution.right for each in questions for solution in each.solutions]
    logger.info(
        f"{len(questions):,} questions with {len(labels):,} solutions, "
        f"{sum(labels) / len(labels):.1%} right; {len(data.held_out)} questions are held out"
    )
    digests = {str(recipe.solutions_folder): data.rows.digest}
    with shared_run(recipe, group.is_main, parents=[Parent.of(base)], data=digests) as run:
        folder = recipe.out / MODEL
        if not folder.exists():
            _train(recipe, run, base, tokenizer, data, group)
        if group.is_main:
            write_report(training_report(run.folder), run.folder)
    return folder


def _train(
    recipe: AlignRecipe, run: Run, base: Path, tokenizer: Tokenizer, data: VerifierData, group: ProcessGroup
) -> None:
    model = ValueModel.of(*with_reserved_token(load_model(base), tokenizer.vocab_size))
    measure = partial(verifier_quality, data.held_out) if data.held_out else None
    trained = fit_rows(
        run, model, data.rows, recipe.training, group, recipe.seed, formula=verifier_loss, measure=measure
    )
    if not group.is_main:
        return
    with atomic_folder(recipe.out / MODEL) as draft:
        save_value_model(draft, trained, special_ids=special_ids(tokenizer), provenance=run.identity)
        tokenizer.save(draft)
