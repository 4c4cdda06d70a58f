"""The training stages: paths in, one fresh run folder out."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from camelid.atomic import atomic_folder
from camelid.data.conversations import Conversations
from camelid.data.corpus import Corpus
from camelid.data.denoising import Denoising, DenoisingKind, Marks
from camelid.data.examples import ConversationExamples, conversation_examples, hold_out_examples
from camelid.data.packing import PackedDocuments, PackedExamples, Rows
from camelid.data.pairs import DenoisedDocuments, PairRows
from camelid.data.prefixes import PrefixRows
from camelid.data.shards import TokenShards, write_shards
from camelid.errors import CamelidError
from camelid.load import check_tokenizer_fits, load_model
from camelid.model.checkpoint import save_checkpoint
from camelid.model.hub import resolve
from camelid.model.transformer import Transformer
from camelid.provenance import Parent, digest_paths
from camelid.recipe import PretrainRecipe, Recipe, TextData, TokenizerRecipe, TuneRecipe
from camelid.recipe_yaml import to_yaml
from camelid.report.page import REPORT, write_report
from camelid.report.training import training_report
from camelid.run import Run
from camelid.text.stream import token_bytes
from camelid.text.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from camelid.train.fit import fit
from camelid.train.parallel import from_main, join_world

MODEL = "model"
"""The subfolder of a run that holds what it made."""


def tokenizer(recipe: TokenizerRecipe) -> Path:
    """Learns a vocabulary from text and saves it, with its recipe, in the fresh folder `recipe.out`."""
    documents = _documents(recipe.data, recipe.data.train)
    texts = _up_to((text for text, _ in documents), recipe.sample_bytes)
    learnt = train_tokenizer(texts, recipe.vocab_size, kind=recipe.kind, sentinels=recipe.sentinels)
    with atomic_folder(recipe.out) as draft:
        learnt.save(draft)
        (draft / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    return recipe.out


def pretrain(recipe: PretrainRecipe) -> Path:
    """Trains a new model on raw text; the folder of the finished checkpoint, `recipe.out`/model."""
    learnt = load_tokenizer(recipe.tokenizer)
    with _open_run(recipe, [Parent.of(recipe.tokenizer)], recipe.data) as run:
        rows, validation = _text_rows(recipe, learnt, run)
        model = Transformer(recipe.model.spec(learnt.vocab_size)).initialize(recipe.seed)
        return _train(recipe, run, model, learnt, rows, validation)


def tune(recipe: TuneRecipe) -> Path:
    """Tunes a model on conversations, the loss on the assistant's turns; the folder of the finished checkpoint."""
    base = resolve(recipe.model)
    learnt = load_tokenizer(base)
    if learnt.chat_template is None:
        raise CamelidError(
            f"{base} has no chat template, so its turns have no form; put a chat_template.jinja into the folder"
        )
    with _open_run(recipe, [Parent.of(base)], recipe.data) as run:
        rows, validation = chat_rows(recipe, learnt, _say if run else _say_nothing)
        model = load_model(base)
        check_tokenizer_fits(model.spec, learnt)
        return _train(recipe, run, model, learnt, rows, validation)


def _train(
    recipe: PretrainRecipe | TuneRecipe,
    run: Run | None,
    model: Transformer,
    learnt: Tokenizer,
    rows: Rows | PairRows,
    validation: Rows | PairRows | None,
) -> Path:
    folder = recipe.out / MODEL
    finished = folder.exists()
    if not finished:
        trained = fit(run, model, rows, validation, recipe.training, token_lengths(learnt))
        if run is not None:
            with atomic_folder(folder) as draft:
                save_checkpoint(draft, trained, special_ids=_special_ids(learnt), provenance=run.identity)
                learnt.save(draft)
    if run is not None and not (finished and (run.folder / REPORT).exists()):
        write_report(training_report(run.folder), run.folder)
    return folder


def token_lengths(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Bytes of text that each id stands for; special tokens stand for none."""
    special = set(tokenizer.special_ids.values())
    return np.array(
        [
            0 if index in special else len(token_bytes(tokenizer, index))
            for index in range(tokenizer.vocab_size)
        ]
    )


@contextmanager
def _open_run(recipe: Recipe, parents: list[Parent], data: TextData) -> Iterator[Run | None]:
    """The run folder in the main process, None in the others; torchrun's processes share one folder."""
    if not join_world().is_main:
        yield None
        return
    digests = digest_paths([*data.train, *data.validation])
    with Run.create(recipe.out, recipe, parents=parents, data=digests) as run:
        yield run


def _text_rows(
    recipe: PretrainRecipe, learnt: Tokenizer, run: Run | None
) -> tuple[Rows | PairRows, Rows | PairRows | None]:
    """Packed rows of the documents, tokenised once into the run folder and memory-mapped from there."""
    world = join_world()
    data, folder = recipe.data, recipe.out / "tokens"
    splits = {"train": data.train} | ({"validation": data.validation} if data.validation else {})
    held_out = 0.0 if data.validation else data.validation_fraction
    if run is not None:
        for name, paths in splits.items():
            if not (folder / name).exists():
                documents = _documents(data, paths)
                fraction = held_out if name == "train" else 0.0
                write_shards(
                    documents, learnt, folder / name, validation_fraction=fraction, workers=data.workers
                )
    from_main(world, None)  # the others wait here until the shards exist
    order = recipe.seed if data.shuffle else None
    rows = _objective_rows(recipe, learnt, TokenShards(folder / "train"), order)
    if data.validation:
        return rows, _objective_rows(recipe, learnt, TokenShards(folder / "validation"), 0)
    if not held_out:
        return rows, None
    return rows, _objective_rows(recipe, learnt, TokenShards(folder / "train", "validation"), 0)


def _objective_rows(
    recipe: PretrainRecipe, learnt: Tokenizer, shards: TokenShards, order: int | None
) -> Rows | PairRows:
    """The documents as the recipe's objective takes them."""
    context, kind, settings = recipe.training.context_length, recipe.objective_kind, recipe.objective
    if not recipe.model.has_encoder:
        packed = PackedDocuments(shards, context, order)
        return PrefixRows(packed, recipe.seed) if kind == "prefix_lm" else packed
    denoising = Denoising(cast(DenoisingKind, kind), settings.noise_density, settings.mean_span)
    start = learnt.pad_id or 0
    return DenoisedDocuments(shards, denoising, context, order, marks=Marks.of(learnt), start_id=start)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _say_nothing(text: str) -> None:
    """The other processes and later looks at the same rows are quiet."""


def chat_rows(
    recipe: TuneRecipe, learnt: Tokenizer, say: Callable[[str], None] = _say_nothing
) -> tuple[Rows, Rows | None]:
    """A tuning recipe's conversations packed side by side, and the held-out ones, None where there are none.

    `say` is told in words what was read, left out and cut.
    """
    data = recipe.data
    trained = _examples(recipe, learnt, data.train, say)
    held_out = None
    if data.validation:
        held_out = _examples(recipe, learnt, data.validation, say)
    elif data.validation_fraction:
        trained, held_out = hold_out_examples(trained, data.validation_fraction)
    return _packed(recipe, learnt, trained), None if held_out is None else _packed(recipe, learnt, held_out)


def _packed(recipe: TuneRecipe, learnt: Tokenizer, made: ConversationExamples) -> Rows:
    pad = 0 if learnt.pad_id is None else learnt.pad_id
    context = recipe.training.context_length
    return PackedExamples(made.examples, context, recipe.seed, pad_id=pad, digest=made.digest)


def _examples(
    recipe: TuneRecipe, learnt: Tokenizer, paths: Sequence[Path], say: Callable[[str], None]
) -> ConversationExamples:
    source = Conversations(paths, recipe.data.skip_bad_rows)
    made = conversation_examples(learnt, source, recipe.training.context_length, recipe.too_long)
    say(source.summary)
    for what, names in (("left out", made.dropped), ("cut", made.cut)):
        if names:
            say(f"{len(names)} conversations {what} as too long, the first: {names[0]}")
    return made


def _documents(data: TextData, paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    corpus = Corpus(paths, data.skip_bad_rows)
    _say(corpus.description)
    yield from corpus
    _say(corpus.summary)


def _up_to(texts: Iterable[str], size: int) -> Iterator[str]:
    """Texts until `size` bytes are given out."""
    for text in texts:
        yield text
        size -= len(text.encode())
        if size <= 0:
            return


def _special_ids(learnt: Tokenizer) -> dict[str, object]:
    stops = sorted(learnt.stop_ids)
    eos = stops[0] if len(stops) == 1 else stops
    return {"bos_token_id": learnt.bos_id, "eos_token_id": eos, "pad_token_id": learnt.pad_id}
