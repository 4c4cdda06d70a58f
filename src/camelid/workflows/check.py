"""`camelid check`: checks recipes, data, models and runs before any compute is spent.

A gate is a name and a function that returns what it found, or raises `CamelidError` with what is wrong.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from camelid.base.errors import CamelidError, WrongCall
from camelid.data.read.conversations import Conversations
from camelid.data.read.corpus import Corpus, describe_files
from camelid.data.rows.examples import ConversationExamples, TooLong, conversation_examples
from camelid.data.rows.shown_rows import NOTHING_SHOWN, ShownRows
from camelid.data.rows.text_examples import PairExamples
from camelid.engine.open_lm import is_url
from camelid.evals.training_text import TrainingText, kind_of, look_for_items, training_data
from camelid.formats.hub import resolve
from camelid.formats.load import with_template
from camelid.recipes.align import AlignRecipe
from camelid.recipes.compare import CompareRecipe
from camelid.recipes.evaluate import EvaluateRecipe
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.quantize import QuantizeRecipe
from camelid.recipes.recipe import Recipe, load_recipe
from camelid.recipes.table import RECIPES
from camelid.recipes.tokenizer import TokenizerRecipe
from camelid.recipes.tune import TuneRecipe
from camelid.recipes.yaml import parse_yaml
from camelid.runs.run import IDENTITY, METRICS, find_damage, list_checkpoints, read_metrics
from camelid.tasks.item_rows import read_items
from camelid.text.tokenizer import load_tokenizer
from camelid.text.vocabulary_files import has_vocabulary
from camelid.workflows.align_gates import align_gates
from camelid.workflows.model_gates import MODEL_FILES, Gate, model_gates, see_lora, see_tokenizer
from camelid.workflows.output_gate import see_out
from camelid.workflows.quickstart.job import PARTS
from camelid.workflows.quickstart.journal import JOURNAL
from camelid.workflows.server_gates import server_gates

CONTAMINATION = "contamination"
MOST_LISTED = 20
"""Number of bad rows that are listed; the rest are counted."""


def check(
    paths: Sequence[str],
    model: str | None = None,
    context_length: int = 2048,
    skip_bad_rows: bool = False,
    items: Sequence[Path] = (),
    show: int = 0,
) -> None:
    """Prints the result of every gate on these paths; raises `CamelidError` if one fails.

    paths: recipes, data files and folders, model, run and quickstart folders, .gguf files, URLs of servers;
    model: the model for which conversations are rendered and tokenised, to at most `context_length` tokens;
    items: files of evaluation items that must not occur in the training data; show: how many rows of training
    data to print, with the trained tokens marked.
    """
    if show < 0:
        raise WrongCall(f"--show is {show}; it is a number of rows, at least 0")
    if not paths:
        raise WrongCall("name at least one recipe, data file, model or run folder, or server to check")
    console = Console(highlight=False)
    shown = ShownRows(show, coloured=console.is_terminal and not console.no_color)
    failed = searched = 0
    for path in paths:
        console.print(path, style="bold", markup=False, soft_wrap=True)
        for gate in gates(path, model, context_length, skip_bad_rows, items, shown):
            failed += not _passes(gate, console)
            searched += gate.name == CONTAMINATION
    if items and not searched:
        raise WrongCall(
            "--items are looked for in training data: pass its files, or a recipe that names them"
        )
    if failed:
        raise CamelidError(f"{failed} check{'s' if failed > 1 else ''} failed")


def gates(
    path: str,
    model: str | None = None,
    context_length: int = 2048,
    skip_bad_rows: bool = False,
    items: Sequence[Path] = (),
    shown: ShownRows = NOTHING_SHOWN,
) -> Iterator[Gate]:
    """The gates for what is at `path`; training data must contain none of the `items`."""
    place = Path(path)
    if is_url(path):
        yield from server_gates(path)
    elif place.suffix in (".yaml", ".yml"):
        yield from _recipe_gates(place, items, shown)
    elif (place / IDENTITY).is_file():
        yield from _run_gates(place)
    elif (place / JOURNAL).is_file():
        yield from _quickstart_gates(place)
    elif any((place / name).is_file() for name in MODEL_FILES):
        yield from model_gates(path)
    elif place.is_dir() and has_vocabulary(place):
        yield Gate("tokenizer", lambda: see_tokenizer(load_tokenizer(place)))
    elif place.suffix == ".gguf":
        yield Gate("GGUF", lambda: _see_gguf(place))
    else:
        yield Gate("data", lambda: _see_data([place], model, context_length, skip_bad_rows, shown))
        for file in items:
            look = partial(look_for_items, file, partial(training_data, [place], skip_bad_rows))
            yield Gate(CONTAMINATION, look)


def _passes(gate: Gate, console: Console) -> bool:
    found: str | Text
    try:
        found, mark, style = gate.look(), "ok", "green"
    except (CamelidError, OSError) as error:
        found, mark, style = str(error), "failed", "bold red"
    console.print(Text.assemble((f"  {mark:8}", style), f"{gate.name}: ", found), soft_wrap=True)
    return mark == "ok"


def _recipe_gates(path: Path, items: Sequence[Path], shown: ShownRows) -> Iterator[Gate]:
    yield Gate("recipe", lambda: _see_recipe(_read_recipe(path)))
    try:
        recipe = _read_recipe(path)
    except CamelidError:
        return  # the gate above reports it, and what the recipe refers to is unknown
    if not isinstance(recipe, EvaluateRecipe):  # an evaluation may resume in its folder
        yield Gate("out", partial(see_out, recipe))
    if isinstance(recipe, PretrainRecipe):
        yield Gate("tokenizer", lambda: see_tokenizer(load_tokenizer(recipe.tokenizer)))
    for model in _models_of(recipe):
        # Alignment renders its own rows below; of several turns a template may forget the earlier ones.
        yield from model_gates(model, template=not isinstance(recipe, AlignRecipe))
    if isinstance(recipe, TuneRecipe | AlignRecipe) and recipe.lora.rank is not None:
        yield Gate("lora", partial(see_lora, recipe))
    for name in ("calibration", "text"):
        if paths := getattr(recipe, name, ()):
            yield Gate(name, partial(_see_text, paths, False))
    if isinstance(recipe, AlignRecipe):
        yield from align_gates(recipe)
        if recipe.ppo.pretraining:
            yield Gate("ppo.pretraining", partial(_see_text, recipe.ppo.pretraining, False))
    if isinstance(recipe, PretrainRecipe | TokenizerRecipe | TuneRecipe):
        for split in ("train", "validation"):
            if paths := getattr(recipe.data, split):
                yield Gate(f"data.{split}", partial(_see_recipe_data, recipe, paths, shown))
    if isinstance(recipe, TuneRecipe):
        for source in recipe.data.sources:
            look = partial(_see_recipe_data, recipe, [source.path], shown)
            yield Gate(f"data.sources {source.path}", look)
    if isinstance(recipe, PretrainRecipe | TuneRecipe):
        for file in items:
            yield Gate(CONTAMINATION, partial(look_for_items, file, partial(_recipe_training, recipe)))


def _read_recipe(path: Path) -> Recipe:
    stage = parse_yaml(path).values.get("stage")
    if stage not in RECIPES:
        allowed = ", ".join(RECIPES)
        raise WrongCall(f"{path}: `stage` is {stage!r}; begin the recipe with `stage:` and one of {allowed}")
    return load_recipe(RECIPES[stage], path)


def _see_recipe(recipe: Recipe) -> str:
    if isinstance(recipe, PretrainRecipe | TuneRecipe):
        training = recipe.training
        return f"{recipe.stage}, {training.length} of {training.global_batch_tokens:,} tokens"
    return recipe.stage


def _models_of(recipe: Recipe) -> tuple[str, ...]:
    """The local models that a recipe starts from."""
    if isinstance(recipe, CompareRecipe):
        return recipe.models
    if isinstance(recipe, TuneRecipe | AlignRecipe | QuantizeRecipe | EvaluateRecipe):
        return () if is_url(recipe.model) else (recipe.model,)
    return ()


def _see_recipe_data(
    recipe: PretrainRecipe | TokenizerRecipe | TuneRecipe, paths: Sequence[Path], shown: ShownRows
) -> str | Text:
    skip = recipe.data.skip_bad_rows
    if isinstance(recipe, TuneRecipe) and recipe.task != "chat":
        return _see_pairs(recipe, paths, shown)
    if isinstance(recipe, TuneRecipe):
        context, markers = recipe.training.context_length, recipe.markers.texts
        template = recipe.chat_template
        return _see_conversations(
            paths, recipe.model, context, recipe.too_long, skip, shown, markers, template
        )
    return _see_text(paths, skip)


def _see_data(
    paths: Sequence[Path], model: str | None, context_length: int, skip_bad_rows: bool, shown: ShownRows
) -> str | Text:
    files, kind = kind_of(paths, skip_bad_rows)
    if kind == "text":
        return _see_text(paths, skip_bad_rows)
    if kind == "conversations":
        return _see_conversations(paths, model, context_length, "error", skip_bad_rows, shown)
    counts = [(len(items), shape.name) for items, shape in map(read_items, files)]
    shapes = ", ".join(dict.fromkeys(name for _, name in counts))
    return (
        f"{describe_files(files)}: {sum(count for count, _ in counts):,} evaluation items of shape {shapes}"
    )


def _recipe_training(recipe: PretrainRecipe | TuneRecipe) -> TrainingText:
    if isinstance(recipe, PretrainRecipe):
        return Corpus(recipe.data.train, recipe.data.skip_bad_rows)
    from camelid.train.training_rows import source_of

    return source_of(recipe, recipe.data.trained)


def _see_text(paths: Sequence[Path], skip_bad_rows: bool) -> str:
    corpus = Corpus(paths, skip_bad_rows)
    _exhaust(corpus)
    return f"{corpus.description}; {corpus.summary}"


def _see_conversations(
    paths: Sequence[Path],
    model: str | None,
    context_length: int,
    too_long: TooLong,
    skip_bad_rows: bool,
    shown: ShownRows,
    markers: Mapping[str, str] | None = None,
    template: Path | None = None,
) -> str | Text:
    source = Conversations(paths, skip_bad_rows, markers)
    if model is None:
        _exhaust(source)
        return (
            f"{source.summary} (with --model they are also rendered and tokenised){_listed(source.skipped)}"
        )
    tokenizer = with_template(load_tokenizer(resolve(model)), template)
    made = conversation_examples(tokenizer, source, context_length, too_long, source.refuse)
    tokens = sum(len(example) for example in made.examples)
    trained = sum(int((example.weights > 0).sum()) for example in made.examples)
    found = f"{source.summary}; {tokens:,} tokens, {trained:,} of them trained"
    for what, names in (("left out", made.dropped), ("cut", made.cut)):
        found += f"; {len(names):,} {what} as too long" if names else ""
    if made.hidden:
        found += f"; {made.hidden_summary}"
    return shown.with_rows(found + _listed(source.skipped), made, tokenizer)


def _listed(skipped: Sequence[str]) -> str:
    """The bad rows that were skipped, below what was found."""
    more = [f"and {len(skipped) - MOST_LISTED:,} more"] if len(skipped) > MOST_LISTED else []
    return "".join(f"\n    skipped {line}" for line in [*skipped[:MOST_LISTED], *more])


def _see_pairs(recipe: TuneRecipe, paths: Sequence[Path], shown: ShownRows) -> str | Text:
    """Reads a task's rows and tokenises them for the model: as pairs for an encoder-decoder, else as
    examples."""
    from camelid.formats.hugging_face.checkpoint import read_spec
    from camelid.train.training_rows import pairs_of, prompted_of

    folder, messages = resolve(recipe.model), list[str]()
    tokenizer = load_tokenizer(folder)
    made: ConversationExamples | PairExamples
    if read_spec(folder).encoder_layers:
        made = pairs_of(recipe, tokenizer, paths, messages.append)
        tokens = sum(len(one.source) for one in made.pairs)
        trained = sum(len(one.targets) for one in made.pairs)
    else:
        made = prompted_of(recipe, tokenizer, paths, messages.append)
        tokens = sum(map(len, made.examples))
        trained = sum(int((one.weights > 0).sum()) for one in made.examples)
    found = f"{'; '.join(messages)}; {tokens:,} tokens read, {trained:,} trained"
    return shown.with_rows(found, made, tokenizer)


def _exhaust(items: Iterable[object]) -> None:
    for _ in items:
        pass


def _see_gguf(path: Path) -> str:
    from camelid.formats.gguf.families import read_spec
    from camelid.formats.gguf.file import GGUFFile

    source = GGUFFile(path)
    count = read_spec(source).parameter_count()
    return f"{count:,} parameters; `camelid import {path} OUT` converts it to a folder"


def _run_gates(folder: Path) -> Iterator[Gate]:
    yield Gate("metrics", lambda: _see_metrics(folder / METRICS))
    for checkpoint in list_checkpoints(folder):
        yield Gate(checkpoint.folder.name, partial(_see_checkpoint, checkpoint.folder))
    if (folder / "model").is_dir():
        yield from model_gates(str(folder / "model"))


def _quickstart_gates(folder: Path) -> Iterator[Gate]:
    """The gates of every part that exists; the world's files are of several kinds, so each is checked
    separately."""
    made = [folder / name for name in PARTS if (folder / name).exists()]
    yield Gate("quickstart", lambda: ", ".join(part.name for part in made) or "nothing made yet")
    for part in made:
        for place in sorted(part.rglob("*.jsonl")) if part.name == "data" else [part]:
            for gate in gates(str(place)):
                yield Gate(f"{place.relative_to(folder)}: {gate.name}", gate.look)


def _see_metrics(path: Path) -> str:
    records = read_metrics(path) if path.is_file() else []
    steps = records[-1]["step"] if records else 0
    return f"{steps:,} steps" if steps else "no steps yet"


def _see_checkpoint(folder: Path) -> str:
    if damage := find_damage(folder):
        raise CamelidError(damage)
    return "complete and undamaged"
