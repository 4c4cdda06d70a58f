"""The card of made data: what was asked and kept, what it cost, whose it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from camelid.base.version import __version__
from camelid.makers.made import Made
from camelid.makers.teacher import Reply, Teacher
from camelid.recipes.make import MakeRecipe
from camelid.runs.licences import rows_of_data


def card_of(
    recipe: MakeRecipe, made: Made, teacher: Teacher, origin: dict[str, Any], data: dict[str, str]
) -> dict[str, Any]:
    """The card as JSON; origin: the teacher's name, identity, licence and terms; data: digests of the files
    read."""
    settings = recipe.model_dump(mode="json", exclude={"teacher", "stage", "out", "licence", "terms"})
    return {
        "maker": recipe.stage.removeprefix("make "),
        "camelid": __version__,
        "teacher": origin,
        "data": data,
        "licences": rows_of_data(map(Path, data)),
        "counts": {
            "replies": len(teacher.replies),
            "rows": len(made.rows),
            "dropped": dict(made.dropped.most_common()),
            "faults": dict(teacher.faults.most_common()),
        },
        "cost": _cost(teacher.replies, len(made.rows)),
        **made.facts,
        "settings": settings,
    }


def _cost(replies: Sequence[Reply], rows: int) -> dict[str, Any]:
    """Tokens and seconds, also per row that is kept; None where a server does not report its tokens."""
    seconds = sum(reply.seconds for reply in replies)
    tokens = _total([reply.tokens for reply in replies if reply.text])
    read = _total([reply.prompt_tokens for reply in replies if reply.text])
    return {
        "seconds": round(seconds, 2),
        "tokens": tokens,
        "prompt_tokens": read,
        "tokens_per_second": None if not (tokens and seconds) else round(tokens / seconds, 2),
        "seconds_per_row": round(seconds / rows, 3) if rows else None,
        "tokens_per_row": round(tokens / rows, 1) if rows and tokens else None,
    }


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None
