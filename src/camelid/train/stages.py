"""The training stages: from paths to a run folder."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.base.atomic import atomic_folder
from camelid.base.digest import digest_paths
from camelid.base.errors import CamelidError, WrongCall
from camelid.base.json import write_json
from camelid.data.rows.packing import Rows
from camelid.data.rows.pairs import PairRows
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_spec, save_checkpoint
from camelid.formats.hugging_face.families import why_own
from camelid.formats.hugging_face.peft_folder import save_adapter
from camelid.formats.load import (
    check_tokenizer_fits,
    load_model,
    special_ids,
    with_template,
)
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.recipes.data import MixedData, TextData
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.recipe import Recipe, save_recipe
from camelid.recipes.tokenizer import TokenizerRecipe
from camelid.recipes.tune import TuneRecipe
from camelid.report.page import REPORT, write_report
from camelid.report.training import training_report
from camelid.runs.licences import Licence, concerns, licences_of_data, unique
from camelid.runs.null_run import NullRun
from camelid.runs.prediction import PREDICTION, Prediction
from camelid.runs.provenance import Parent
from camelid.runs.run import SOURCES, Run
from camelid.text.stream import token_bytes
from camelid.text.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from camelid.text.vocabulary_learning import first_bytes
from camelid.train.adapting import adapted_model, check_lora
from camelid.train.clock import TimeLimit
from camelid.train.distillation import TaughtRows, distilled, taught_rows, teacher_of
from camelid.train.fit import Formula, fit_rows, measured_loss, rows_of_update
from camelid.train.objectives import cross_entropy
from camelid.train.on_policy import OnPolicy, StudentAnswers
from camelid.train.parallel import ProcessGroup, join_process_group
from camelid.train.sharding import new_model
from camelid.train.tensor_parallel import tensor_plan
from camelid.train.training_rows import (
    decoder_rows,
    logged_documents,
    pair_rows,
    refuse_other_rows,
    text_rows,
)

logger = logging.getLogger(__name__)

MODEL = "model"
"""The subfolder of a run with the trained model."""
ADAPTER = "adapter"
"""The same for an adapter, which is PEFT's folder."""


def learn_tokenizer(recipe: TokenizerRecipe) -> Path:
    """Learns a vocabulary from text and saves it, with its recipe, in the new folder `recipe.out`."""
    documents = logged_documents(recipe.data, recipe.data.train)
    texts = first_bytes((text for text, _ in documents), recipe.sample_bytes)
    trained = train_tokenizer(texts, recipe.vocab_size, kind=recipe.kind, sentinels=recipe.sentinels)
    with atomic_folder(recipe.out) as draft:
        trained.save(draft)
        save_recipe(recipe, draft / "recipe.yaml")
    return recipe.out


def pretrain(recipe: PretrainRecipe, limit: TimeLimit | None = None) -> Path:
    """Trains a new model on raw text; returns the folder of the finished checkpoint, `recipe.out`/model.

    limit: when to end at the latest; see `train.clock`.
    """
    group = join_process_group(recipe.parallel)
    rows_of_update(recipe.training, group.data_size)  # refuses what cannot be shared before any work
    tokenizer = load_tokenizer(recipe.tokenizer)
    spec = recipe.model.spec(tokenizer.vocab_size)
    tensor_plan(spec, group.tensor_size)
    prediction = None if recipe.prediction is None else Prediction.read(recipe.prediction)
    parents = [Parent.of(recipe.tokenizer)]
    with group.answering(recipe.out), open_run(recipe, parents, recipe.data, group) as run:
        if prediction is not None and group.is_main:
            prediction.write(run.folder / PREDICTION)
        rows, validation = text_rows(recipe, tokenizer, group)
        if prediction is not None and group.is_main:
            training = recipe.training.for_rows(rows.per_epoch)
            tokens = training.total_steps * training.global_batch_tokens
            if (odd := prediction.differs(spec.parameter_count(), tokens)) is not None:
                logger.warning(f"{recipe.prediction} is for {odd}: hit or miss will not speak for its law")
        if group.is_main and (reason := why_own(spec)):
            logger.info(f"{reason}: only camelid can read its folder")
        model = new_model(spec, recipe.seed, group.mesh, group.device, group.gathered)
        return _train(recipe, run, model, tokenizer, rows, validation, group, limit)


def tune(recipe: TuneRecipe, limit: TimeLimit | None = None, answers: StudentAnswers | None = None) -> Path:
    """Tunes a model on conversations or on pairs; returns the folder of the finished checkpoint.

    limit: when to end at the latest; see `train.clock`. answers: how a student in training answers, which
    `distill.on_policy` needs.
    """
    if recipe.distill.on_policy and answers is None:
        raise WrongCall("distill.on_policy needs an engine: call camelid.workflows.gated.tune")
    group, base = join_process_group(recipe.parallel), resolve(recipe.model)
    rows_of_update(recipe.training, group.data_size)
    tokenizer = with_template(load_tokenizer(base), recipe.chat_template)
    spec = read_spec(base)
    tensor_plan(spec, group.tensor_size)
    check_tokenizer_fits(spec, tokenizer)
    encodes = spec.encoder_layers > 0
    check_lora(recipe.lora, base, group.tensor_size)
    _check_task(recipe, base, tokenizer, encodes)
    check_context(recipe.training.context_length, base, spec)
    template = tokenizer.chat_template
    today = date.today() if template is not None and template.uses_clock else None
    parents = [Parent.of(base, recipe.licence)]
    if recipe.distill.teacher is not None:
        parents.append(Parent.of(teacher_of(recipe, base, tokenizer, encodes)))
    with group.answering(recipe.out), open_run(recipe, parents, recipe.data, group, today) as run:
        if template is not None and today is not None:
            # The day on which the run began, also where another process or a resumed run gets here later.
            began = group.broadcast(run.identity["date"] if group.is_main else None)
            tokenizer.chat_template = replace(template, today=date.fromisoformat(began) if began else today)
        rows: Rows | PairRows
        validation: Rows | PairRows | None
        if encodes:
            rows, validation = pair_rows(recipe, tokenizer, logger.info)
        else:
            record = partial(_record_sources, run, group)
            rows, validation = decoder_rows(recipe, tokenizer, logger.info, record)
            if recipe.distill.teacher is not None:
                rows = taught_rows(recipe, run, rows, group)
        if group.is_main:
            refuse_other_rows(run, rows, validation)
        if recipe.lora.rank is None:
            model = load_model(base)
            return _train(recipe, run, model, tokenizer, rows, validation, group, limit, None, answers)
        model = adapted_model(base, recipe.lora, recipe.seed)

        def save(draft: Path, trained: Transformer) -> None:
            save_adapter(draft, trained, base, _made(run, recipe))
            if recipe.chat_template is not None:
                tokenizer.save(draft)

        return _train(recipe, run, model, tokenizer, rows, validation, group, limit, save, answers)


def _made(run: Run, recipe: PretrainRecipe | TuneRecipe) -> dict[str, Any]:
    """What camelid.json of the result says: the run's identity, and the texts of its markers."""
    markers = recipe.markers.texts if isinstance(recipe, TuneRecipe) else {}
    return run.identity | ({"markers": markers} if markers else {})


def _record_sources(run: Run, group: ProcessGroup, counts: list[dict[str, Any]]) -> None:
    if group.is_main:
        write_json(run.folder / SOURCES, counts)


def check_chat(base: Path, tokenizer: Tokenizer, encodes: bool) -> None:
    """Raises `CamelidError` if a model cannot be tuned on conversations."""
    if encodes:
        raise CamelidError(
            f"{base} is an encoder-decoder, which cannot be tuned on conversations; give --task pairs for "
            "rows with `input` and `target`, or the name of a task"
        )
    if tokenizer.chat_template is None:
        raise CamelidError(
            f"{base} has no chat template, which conversations need; add a chat_template.jinja to it"
        )


def _check_task(recipe: TuneRecipe, base: Path, tokenizer: Tokenizer, encodes: bool) -> None:
    if recipe.task == "chat":
        check_chat(base, tokenizer, encodes)
    if encodes and recipe.input_weight:
        raise CamelidError(
            f"{base} is an encoder-decoder, which does not predict its input; remove --input-weight"
        )


def check_context(wanted: int, base: Path, spec: ModelSpec) -> None:
    """Raises `WrongCall` if rows of `wanted` tokens exceed the model's context."""
    if wanted > spec.most_tokens:
        raise WrongCall(
            f"training.context_length is {wanted}, but the context of {base} holds {spec.context_length} "
            f"tokens; give --training.context-length {spec.context_length} or less"
        )


def _train(
    recipe: PretrainRecipe | TuneRecipe,
    run: Run,
    model: Transformer,
    tokenizer: Tokenizer,
    rows: Rows | PairRows,
    validation: Rows | PairRows | None,
    group: ProcessGroup,
    limit: TimeLimit | None = None,
    save_as_adapter: Callable[[Path, Transformer], None] | None = None,
    answers: StudentAnswers | None = None,
) -> Path:
    folder = recipe.out / (MODEL if save_as_adapter is None else ADAPTER)
    finished = folder.exists()
    if not finished:
        measure = measured_loss(validation, token_lengths(tokenizer))
        formula: Formula[Transformer] = cross_entropy
        samples_of = None
        if isinstance(recipe, TuneRecipe) and isinstance(rows, TaughtRows):
            formula = partial(distilled, recipe.distill)
            if answers is not None and recipe.distill.on_policy:
                samples_of = partial(
                    OnPolicy,
                    tokenizer=tokenizer,
                    make=answers,
                    rows=rows,
                    settings=recipe.distill,
                    group=group,
                    seed=recipe.seed,
                )
        trained = fit_rows(
            run,
            model,
            rows,
            recipe.training,
            group,
            recipe.seed,
            limit,
            formula=formula,
            measure=measure,
            samples_of=samples_of,
        )
        if group.is_main:
            with atomic_folder(folder) as draft:
                if save_as_adapter is not None:
                    save_as_adapter(draft, trained)
                else:
                    ids = special_ids(tokenizer)
                    save_checkpoint(draft, trained, special_ids=ids, provenance=_made(run, recipe))
                    (tokenizer.for_encoder() if model.encoder is not None else tokenizer).save(draft)
    if group.is_main and not (finished and (run.folder / REPORT).exists()):
        write_report(training_report(run.folder), run.folder)
    return folder


def token_lengths(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Bytes of text of each token id; 0 for special tokens."""
    special = set(tokenizer.special_ids.values())
    return np.array(
        [
            0 if index in special else len(token_bytes(tokenizer, index))
            for index in range(tokenizer.vocab_size)
        ]
    )


@contextmanager
def open_run(
    recipe: Recipe,
    parents: list[Parent],
    data: TextData,
    group: ProcessGroup,
    today: date | None = None,
) -> Iterator[Run]:
    """The run; of torchrun's processes, which share one folder, only the main one writes."""
    if not group.is_main:
        yield NullRun(recipe.out)
        return
    also = recipe.chat_template if isinstance(recipe, TuneRecipe) else None
    also = recipe.prediction if isinstance(recipe, PretrainRecipe) else also
    digests = digest_paths([*data.paths, *([] if also is None else [also])])
    day = None if today is None else today.isoformat()
    licences = _licences(data, parents)
    with Run.create(recipe.out, recipe, parents=parents, data=digests, date=day, licences=licences) as run:
        yield run


def _licences(data: TextData, parents: Sequence[Parent]) -> list[Licence]:
    """Those of the data; what to look up about them and the parents' is logged, before training."""
    stated = dict.fromkeys(data.train, data.licence)
    if isinstance(data, MixedData):
        stated |= {source.path: source.licence or data.licence for source in data.sources}
    found = [each for path, licence in stated.items() for each in licences_of_data(path, licence)]
    for concern in concerns(unique([*(each for parent in parents for each in parent.licences), *found])):
        logger.warning(concern)
    return found
