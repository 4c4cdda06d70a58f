"""`camelid align --method dpo`: from comparisons to a policy, or an adapter of one."""

from pathlib import Path

from camelid.align.dpo import dpo
from camelid.align.preference_quality import preference_quality
from camelid.align.preference_rows import PackedPairs, read_pairs, with_reference
from camelid.align.saving import save_trained
from camelid.base.digest import digest_paths
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_spec
from camelid.formats.hugging_face.tensor_files import dtype_name
from camelid.formats.load import check_tokenizer_fits, load_model
from camelid.recipes.align import AlignRecipe
from camelid.report.page import write_report
from camelid.report.training import training_report
from camelid.runs.null_run import shared_run
from camelid.runs.provenance import Parent
from camelid.runs.run import Run
from camelid.text.tokenizer import Tokenizer, load_tokenizer
from camelid.train.adapting import adapted_model, check_lora
from camelid.train.fit import fit_rows, precision, rows_of_update
from camelid.train.parallel import ProcessGroup
from camelid.train.stages import ADAPTER, MODEL, check_chat, check_context
from camelid.train.tensor_parallel import tensor_plan


def train_dpo(recipe: AlignRecipe, group: ProcessGroup) -> Path:
    """Trains the model on comparisons; returns the folder of the result, a model or an adapter."""
    base = resolve(recipe.model)
    rows_of_update(recipe.training, group.data_size)
    spec, tokenizer = read_spec(base), load_tokenizer(base)
    tensor_plan(spec, group.tensor_size)
    check_lora(recipe.lora, base, group.tensor_size)
    check_chat(base, tokenizer, spec.encoder_layers > 0)
    check_context(recipe.training.context_length, base, spec)
    check_tokenizer_fits(spec, tokenizer)
    digests = digest_paths(recipe.comparisons)
    with shared_run(recipe, group.is_main, parents=[Parent.of(base)], data=digests) as run:
        folder = recipe.out / (MODEL if recipe.lora.rank is None else ADAPTER)
        if not folder.exists():
            _train(recipe, run, base, tokenizer, group, folder)
        if group.is_main:
            write_report(training_report(run.folder), run.folder)
    return folder


def _train(
    recipe: AlignRecipe, run: Run, base: Path, tokenizer: Tokenizer, group: ProcessGroup, folder: Path
) -> None:
    pairs, context = read_pairs(recipe, tokenizer), recipe.training.context_length
    dtype = precision(run, recipe.training, group)  # the reference has that of training: they start equal
    training = recipe.training.model_copy(update={"dtype": dtype_name(dtype)})
    adapts = recipe.lora.rank is not None
    model = adapted_model(base, recipe.lora, recipe.seed) if adapts else load_model(base)  # equal at first
    train, held_out = (
        with_reference(each, model, dtype, context, group) for each in (pairs.train, pairs.held_out)
    )
    rows = PackedPairs(train, context, recipe.seed, tokenizer.pad_id or 0)
    measure = preference_quality(held_out, context, recipe.dpo)
    trained = fit_rows(
        run, model, rows, training, group, recipe.seed, formula=dpo(recipe.dpo), measure=measure
    )
    if group.is_main:
        save_trained(trained, folder, base, tokenizer, run)
