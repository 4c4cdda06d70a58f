"""Whether runs can share a law: their losses compare on one text, read once, by one tokenizer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from camelid.base.json import read_table
from camelid.recipes.pretrain import PretrainRecipe
from camelid.runs.run import IDENTITY, TOKENS

ONCE = 1.02
"""Epochs from which a text is read more than once: rows end after whole batches."""


def differences(folders: Sequence[Path]) -> Iterator[str]:
    """In words, what differs between run folders that changes their losses, naming two that differ."""
    found = [_traits(folder) for folder in folders]
    for name in found[0] if found else ():
        for folder, traits in zip(folders, found, strict=True):
            if traits[name] != found[0][name]:
                yield (
                    f"the runs have different {name}, such as {folders[0]} and {folder}: no law holds "
                    "for both"
                )
                break


def repeats(runs: Iterable[tuple[Path, float]]) -> Iterator[str]:
    """In words, the run that reads its text most often, if that is more than once.

    runs: the folder of a run on the same text, which may be the run's own, and the tokens that it reads.
    """
    epochs = {tokens / once: tokens for folder, tokens in runs if (once := _one_pass(folder)) is not None}
    if epochs and (most := max(epochs)) > ONCE:
        yield (
            f"{epochs[most]:,.0f} tokens are {most:.2f} epochs of their text: a law counts repeated tokens "
            "as new ones, which are worth more; give more text, or fewer tokens"
        )


def _one_pass(folder: Path) -> int | None:
    """The tokens that a run reads in one pass over its text; None of encoder-decoders, whose rows hold other
    tokens, and where the tokens are gone."""
    meta = folder / TOKENS / "train" / "meta.json"
    if _recipe(folder).model.has_encoder or not meta.is_file():
        return None
    table = read_table(meta)
    text = table["splits"]["train"]
    return int(text["tokens"] + text["documents"] * (table["bos_id"] is not None))


def _recipe(folder: Path) -> PretrainRecipe:
    return PretrainRecipe.model_validate(read_table(folder / IDENTITY)["recipe"])


def _traits(folder: Path) -> Mapping[str, object]:
    identity = read_table(folder / IDENTITY)
    recipe = _recipe(folder)
    digests = identity.get("data", {})

    def contents(paths: Sequence[Path]) -> list[str]:
        return sorted(digests.get(str(path), str(path)) for path in paths)

    held_out = contents(recipe.data.validation) or recipe.data.validation_fraction
    return {
        "training texts": contents(recipe.data.train),
        "validation texts": held_out,
        "tokenizers": [parent["digest"] for parent in identity.get("parents", ())],
        "objectives": recipe.objective_kind,
        "context lengths": recipe.training.context_length,
    }
