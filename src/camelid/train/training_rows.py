"""A recipe's data as rows to train on and held-out rows to validate on."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from camelid.base.errors import WrongCall
from camelid.base.json import read_table, write_json
from camelid.data.read.conversations import Conversations
from camelid.data.read.corpus import Corpus
from camelid.data.read.text_to_text import TextPairs
from camelid.data.rows.denoising import Denoising, DenoisingKind, Marks
from camelid.data.rows.examples import ConversationExamples, conversation_examples, hold_out_examples
from camelid.data.rows.packing import PackedDocuments, PackedExamples, Rows
from camelid.data.rows.pairs import DenoisedDocuments, PairRows, ShuffledPairs
from camelid.data.rows.prefixes import PrefixRows
from camelid.data.rows.shards import TokenShards, write_shards
from camelid.data.rows.shown_rows import colours_on_stderr, shown_rows, with_escapes
from camelid.data.rows.text_examples import PairExamples, hold_out_pairs, text_examples, text_pairs
from camelid.recipes.data import Source, TextData
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.tune import TuneRecipe
from camelid.runs.run import ROWS, TOKENS, Run
from camelid.text.tokenizer import Tokenizer
from camelid.train.mixture import drawn, joined, mixed_rows, read_parts, source_counts
from camelid.train.parallel import ProcessGroup

logger = logging.getLogger(__name__)

MOST_LISTED = 20
"""Number of bad rows that are listed; the rest are counted."""
Tell = Callable[[str], None]
"""Reports which rows were read, left out and cut; such as `logger.info`."""


def text_rows(
    recipe: PretrainRecipe, tokenizer: Tokenizer, group: ProcessGroup
) -> tuple[Rows | PairRows, Rows | PairRows | None]:
    """A pretraining recipe's training and held-out rows, tokenised once into the run folder."""
    data, folder = recipe.data, recipe.out / TOKENS
    splits = {"train": data.train} | ({"validation": data.validation} if data.validation else {})
    held_out = 0.0 if data.validation else data.validation_fraction
    if group.is_main:
        for name, paths in splits.items():
            if not (folder / name).exists():
                documents = logged_documents(data, paths)
                fraction = held_out if name == "train" else 0.0
                write_shards(
                    documents,
                    tokenizer,
                    folder / name,
                    validation_fraction=fraction,
                    workers=data.workers,
                    on=data.on,
                )
    group.barrier()  # wait until the main process has written the shards
    order = recipe.seed if data.shuffle else None
    rows = _objective_rows(recipe, tokenizer, TokenShards(folder / "train"), order)
    if data.validation:
        return rows, _objective_rows(recipe, tokenizer, TokenShards(folder / "validation"), 0)
    if not held_out:
        return rows, None
    return rows, _objective_rows(recipe, tokenizer, TokenShards(folder / "train", "validation"), 0)


def _objective_rows(
    recipe: PretrainRecipe, tokenizer: Tokenizer, shards: TokenShards, order: int | None
) -> Rows | PairRows:
    """The documents as rows for the recipe's objective."""
    context, kind, settings = recipe.training.context_length, recipe.objective_kind, recipe.objective
    if not recipe.model.has_encoder:
        packed = PackedDocuments(shards, context, order)
        return PrefixRows(packed, recipe.seed) if kind == "prefix_lm" else packed
    denoising = Denoising(cast(DenoisingKind, kind), settings.noise_density, settings.mean_span)
    start = tokenizer.pad_id or 0
    return DenoisedDocuments(shards, denoising, context, order, marks=Marks.of(tokenizer), start_id=start)


def logged_documents(data: TextData, paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """The documents with their names; logs a description before them and a summary after."""
    corpus = Corpus(paths, data.skip_bad_rows)
    logger.info(corpus.description)
    yield from corpus
    logger.info(corpus.summary)


def decoder_rows(
    recipe: TuneRecipe,
    tokenizer: Tokenizer,
    tell: Tell = logger.debug,
    record: Callable[[list[dict[str, Any]]], None] = lambda counts: None,
) -> tuple[Rows, Rows | None]:
    """A tuning recipe's conversations or pairs, packed into rows, and the held-out ones or None.

    `tell` is given in words what was read, left out and cut; `record` the counts of each source of a mixture.
    """
    data = recipe.data
    if data.sources:
        return _mixed(recipe, tokenizer, tell, record)
    trained = prompted_of(recipe, tokenizer, data.train, tell)
    _show(trained, tokenizer, recipe.show, tell)
    held_out = None
    if data.validation:
        held_out = prompted_of(recipe, tokenizer, data.validation, tell)
    elif data.validation_fraction:
        trained, held_out = hold_out_examples(trained, data.validation_fraction)
    return _packed(recipe, tokenizer, trained), None if held_out is None else _packed(
        recipe, tokenizer, held_out
    )


def _mixed(
    recipe: TuneRecipe, tokenizer: Tokenizer, tell: Tell, record: Callable[[list[dict[str, Any]]], None]
) -> tuple[Rows, Rows | None]:
    """The rows of a mixture, and the held-out ones of all its sources."""
    data = recipe.data
    parts = read_parts(
        data.sources,
        lambda source: prompted_of(recipe, tokenizer, [source.path], tell, source),
        0.0 if data.validation else data.validation_fraction,
    )
    for counts in (made := source_counts(parts)):
        tell(
            f"{counts['path']}: {counts['rows']:,} rows, {counts['trained_tokens']:,} trained tokens, "
            f"{counts['share']:.1%} of the mixture"
        )
    record(made)
    _show(joined(part.train.part([True]) for part in parts), tokenizer, recipe.show, tell)
    if data.validation:
        held_out = prompted_of(recipe, tokenizer, data.validation, tell)
    else:
        held_out = joined(part.held_out for part in parts)
    rows = mixed_rows(parts, recipe, tokenizer)
    return rows, _packed(recipe, tokenizer, held_out) if held_out.examples else None


def pair_rows(
    recipe: TuneRecipe, tokenizer: Tokenizer, tell: Tell = logger.debug
) -> tuple[PairRows, PairRows | None]:
    """A tuning recipe's pairs for an encoder-decoder, and the held-out ones; see `decoder_rows`."""
    data = recipe.data
    if data.sources:
        raise WrongCall("data.sources are for decoders; give an encoder-decoder its files with --data.train")
    trained = pairs_of(recipe, tokenizer, data.train, tell)
    _show(trained, tokenizer, recipe.show, tell)
    held_out = None
    if data.validation:
        held_out = pairs_of(recipe, tokenizer, data.validation, tell)
    elif data.validation_fraction:
        trained, held_out = hold_out_pairs(trained, data.validation_fraction)
    rows = ShuffledPairs(trained.pairs, recipe.seed)
    return rows, None if held_out is None else ShuffledPairs(held_out.pairs)


def refuse_other_rows(run: Run, rows: Rows | PairRows, validation: Rows | PairRows | None) -> None:
    """Records the digests of a run's rows, or compares them with those recorded when it began.

    Files and recipe are compared before; this also finds another rendering or tokenisation of the same files.
    Raises `WrongCall` if they differ.
    """
    now = {"train": rows.digest, "validation": None if validation is None else validation.digest}
    path = run.folder / ROWS
    if not path.exists():
        write_json(path, now)
        return
    before = read_table(path)
    if changed := [name for name, digest in now.items() if before.get(name) != digest]:
        raise WrongCall(
            f"{run.folder}: the {' and '.join(changed)} rows are not those that the run began with, "
            "though the "
            "files and the recipe are the same: this version reads, renders or tokenises them otherwise; "
            "continue with the version in run.json, or give another folder with --out"
        )


def _packed(recipe: TuneRecipe, tokenizer: Tokenizer, made: ConversationExamples) -> Rows:
    pad = 0 if tokenizer.pad_id is None else tokenizer.pad_id
    context = recipe.training.context_length
    return PackedExamples(made.examples, context, recipe.seed, pad_id=pad, digest=made.digest)


def prompted_of(
    recipe: TuneRecipe,
    tokenizer: Tokenizer,
    paths: Sequence[Path],
    tell: Tell,
    part: Source | None = None,
) -> ConversationExamples:
    """A decoder's examples from these files; `tell` reports what was read, left out and cut.

    part: the source of a mixture that the files are.
    """
    source = source_of(recipe, paths, "good" if part is None else part.marker)
    context, cap = recipe.training.context_length, None if part is None else part.cap
    if isinstance(source, Conversations):
        made = conversation_examples(
            tokenizer, drawn(source, cap, recipe.seed), context, recipe.too_long, source.refuse
        )
    else:
        made = text_examples(
            tokenizer,
            drawn(source, cap, recipe.seed),
            context,
            input_weight=recipe.input_weight,
            too_long=recipe.too_long,
            refuse=source.refuse,
        )
    _summarise(source, made, tell)
    return made


def pairs_of(recipe: TuneRecipe, tokenizer: Tokenizer, paths: Sequence[Path], tell: Tell) -> PairExamples:
    """An encoder-decoder's pairs from these files; see `prompted_of`."""
    source, room = source_of(recipe, paths), recipe.training.context_length
    assert isinstance(source, TextPairs)  # `tune` rejects conversations for an encoder-decoder
    start = tokenizer.pad_id or 0
    made = text_pairs(
        tokenizer, source, room, room, start_id=start, too_long=recipe.too_long, refuse=source.refuse
    )
    _summarise(source, made, tell)
    return made


def source_of(recipe: TuneRecipe, paths: Sequence[Path], plain: str = "good") -> Conversations | TextPairs:
    """The rows of these files, read according to the recipe's task; plain: see `Conversations`."""
    skip = recipe.data.skip_bad_rows
    if recipe.task == "chat":
        return Conversations(paths, skip, recipe.markers.texts, plain)
    return TextPairs(paths, None if recipe.task == "pairs" else recipe.task, skip)


def _summarise(
    source: Conversations | TextPairs, made: ConversationExamples | PairExamples, tell: Tell
) -> None:
    tell(source.summary)
    for problem in source.skipped[:MOST_LISTED]:
        tell(f"skipped {problem}")
    if (more := len(source.skipped) - MOST_LISTED) > 0:
        tell(f"and {more:,} more; `camelid check --skip-bad-rows` with --model lists all")
    for what, names in (("left out", made.dropped), ("cut", made.cut)):
        if names:
            tell(f"{len(names)} rows {what} because they are too long, the first: {names[0]}")
    if isinstance(made, ConversationExamples) and made.hidden:
        tell(made.hidden_summary)


def _show(made: ConversationExamples | PairExamples, tokenizer: Tokenizer, count: int, tell: Tell) -> None:
    """Reports the first rows, with their trained tokens in colour on a terminal."""
    coloured = colours_on_stderr()
    for row in shown_rows(made, tokenizer, count, coloured):
        tell(with_escapes(row) if coloured else row.plain)
