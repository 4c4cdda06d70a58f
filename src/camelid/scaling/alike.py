"""Whether runs can share a law: their losses compare on one text, read once, by one tokenizer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from camelid.base.json import read_table
from camelid.data.rows.shards import TokenShards
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
    epochs = {}
    for folder, tokens in runs:
        if (folder / TOKENS / "train").is_dir():
            text = TokenShards(folder / TOKENS / "train")
            epochs[tokens / (text.token_count + len(text) * (1 + text.lead))] = tokens
    if epochs and (most := max(epochs)) > ONCE:
        yield (
            f"{epochs[most]:,.0f} tokens are {most:.1f} epochs of their text: a law counts repeated tokens "
            "as new ones, which are worth more; give more text, or fewer tokens"
        )


def _traits(folder: Path) -> Mapping[str, object]:
    identity = read_table(folder / IDENTITY)
    recipe = PretrainRecipe.model_validate(identity["recipe"])
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
