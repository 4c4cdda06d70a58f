"""`camelid check`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction


def check(
    paths: Annotated[tuple[str, ...], Positional],
    model: str | None = None,
    context_length: int = 2048,
    skip_bad_rows: bool = False,
    items: Annotated[tuple[Path, ...], UseAppendAction] = (),
) -> None:
    """Find what is wrong with recipes, data, models and runs before compute is spent.

    Args:
        paths: recipes (.yaml), data files and folders, model folders, .gguf files, run folders, a quickstart's folder
        model: checkpoint folder or hub name; conversations are then rendered and tokenised as for tuning it
        context_length: tokens that a conversation may have, with --model
        skip_bad_rows: count malformed rows instead of failing at the first
        items: a file of evaluation items, none of which may stand in the training data; can be given again
    """
    from camelid.workflows.check import check as look

    look(paths, model, context_length, skip_bad_rows, items)
