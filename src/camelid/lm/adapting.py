"""Fields of a request that some servers refuse, and how those servers take them.

Only what leaves the answer as it is: a field's other name, or a field that has no effect in this request.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from camelid.lm.connection import StatusError

Body = Mapping[str, Any]

REFUSED = re.compile(
    r"not support(?!ed values)|unsupported|unknown|unrecogni[sz]ed|unexpected|"
    r"not permitted|not allowed|forbidden|extra",
    re.IGNORECASE,
)
"""Words of an error about a field that a server does not know, not about its value."""


def _renamed(body: Body) -> dict[str, Any]:
    rest = {name: value for name, value in body.items() if name != "max_tokens"}
    return rest | {"max_completion_tokens": body["max_tokens"]} if "max_tokens" in body else rest


def _one_token(body: Body) -> dict[str, Any]:
    limits = {name: max(1, body[name]) for name in ("max_tokens", "max_completion_tokens") if name in body}
    return {**body, **limits}


def _without_n(body: Body) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "n" or value != 1}


def _without_seed(body: Body) -> dict[str, Any]:
    greedy = body.get("temperature") == 0
    return {name: value for name, value in body.items() if name != "seed" or not greedy}


ADAPTATIONS: Mapping[str, Callable[[Body], dict[str, Any]]] = {
    "max_completion_tokens": _renamed,
    "max_tokens 1": _one_token,
    "no n": _without_n,
    "no seed": _without_seed,
}


def adapted(body: Body, names: Iterable[str]) -> dict[str, Any]:
    """The request with these adaptations."""
    for name in names:
        body = ADAPTATIONS[name](body)
    return dict(body)


def adaptation_for(body: Body, error: StatusError) -> str | None:
    """The adaptation that an error of this request asks for, or None if it asks for none that is known."""
    text = error.text
    if error.status not in (400, 404, 422):
        return None
    refused = REFUSED.search(text) is not None
    limit = next((name for name in ("max_tokens", "max_completion_tokens") if name in body), None)
    asked: dict[str, bool] = {
        "max_completion_tokens": "max_completion_tokens" in text or (refused and "max_tokens" in text),
        "max_tokens 1": limit is not None and body[limit] == 0 and "max" in text and "token" in text,
        "no n": refused and re.search(r"\bn\b", text) is not None,
        "no seed": refused and re.search(r"\bseed\b", text) is not None,
    }
    changing = (name for name, wanted in asked.items() if wanted and adapted(body, [name]) != dict(body))
    return next(changing, None)
