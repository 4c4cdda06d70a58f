"""Whether runs can share a law: their losses compare only on one text, with one tokenizer and objective."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from camelid.base.json import read_table
from camelid.recipes.pretrain import PretrainRecipe
from camelid.runs.run import IDENTITY


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
