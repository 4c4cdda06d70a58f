"""JSON schemas before they are compiled: every keyword is enforced, a mere annotation, or refused by name.

The compiler (llguidance) reads numbers as float64 and ignores keywords that it does not know, so both are
checked here.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from camelid.base.errors import WrongCall

Schema = Mapping[str, Any]
NUMBERS = frozenset({"multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"})
VALUES = frozenset({"enum", "const"})
IN_ONE = frozenset({"items", "additionalItems", "additionalProperties"})
IN_LIST = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
IN_MAP = frozenset({"properties", "patternProperties", "$defs", "definitions"})
"""Keywords whose value is a schema, a list of schemas, or a mapping from names to schemas."""
LIMITS = frozenset({"maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties"})
ENFORCED = NUMBERS | VALUES | IN_ONE | IN_LIST | IN_MAP | LIMITS
ENFORCED |= {"type", "pattern", "format", "required", "$ref", "x-guidance"}
ANNOTATIONS = frozenset(
    [
        "$schema",
        "$id",
        "id",
        "$anchor",
        "$comment",
        "title",
        "description",
        "default",
        "examples",
        "example",
        "deprecated",
        "readOnly",
        "writeOnly",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
        "externalDocs",
        "xml",
        "discriminator",
    ]
)
"""Keywords that restrict nothing, as those that begin with `x-` do."""
UNSUPPORTED = frozenset(
    [
        "not",
        "if",
        "then",
        "else",
        "contains",
        "minContains",
        "maxContains",
        "uniqueItems",
        "propertyNames",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "unevaluatedItems",
        "unevaluatedProperties",
        "$dynamicRef",
        "$dynamicAnchor",
        "$recursiveRef",
        "$recursiveAnchor",
        "$vocabulary",
    ]
)
"""Keywords of the standard's drafts that cannot be enforced token by token, or are not yet."""
INSTEAD = {"nullable": 'write "type": ["string", "null"], with the type that is meant'}
LARGEST = 2**53
"""Integers up to here are exact in float64."""


def check_schema(schema: Schema) -> None:
    """Raises `WrongCall` that names the first keyword or number that could not be enforced exactly."""
    for place, keyword, value in _keywords(schema, "#"):
        where = f"json_schema cannot be used: {place}"
        if keyword in UNSUPPORTED:
            raise WrongCall(f"{where}: the keyword {keyword!r} cannot be enforced; leave it out")
        if keyword not in ENFORCED | ANNOTATIONS and not keyword.startswith("x-"):
            known = ", ".join(sorted(ENFORCED - {"x-guidance"}))
            hint = INSTEAD.get(keyword, f"those enforced are {known}")
            raise WrongCall(f"{where}: the keyword {keyword!r} is unknown; {hint}")
        if keyword in NUMBERS | VALUES:
            for number in _numbers(value):
                if abs(number) > LARGEST and not (keyword in NUMBERS and isinstance(number, float)):
                    raise WrongCall(
                        f"{where}/{keyword}: {number} is beyond ±2^53, where the compiler rounds numbers; "
                        "use a smaller one, a string, or a regex"
                    )


def fold_patterns(schema: Schema, exhausted: Callable[[str, list[str]], bool]) -> dict[str, Any]:
    """The schema without `patternProperties` that match only names which `properties` declares as well.

    Their schemas are added to those properties, which means the same. The compiler would offer one more
    property, and then find no name for it (llguidance#265). exhausted: whether a pattern matches no further
    name.
    """
    folded = {key: _folded_within(key, value, exhausted) for key, value in schema.items()}
    patterns, properties = folded.get("patternProperties"), folded.get("properties")
    if not isinstance(patterns, dict) or not isinstance(properties, dict):
        return folded
    kept = dict(patterns)
    for pattern, rule in patterns.items():
        names = [name for name in properties if _matches(pattern, name)]
        # Behind or before other characters they must not match: then it is anchored at both ends.
        around = [text for name in names for text in (f"{name}\0", f"\0{name}")]
        if names and not any(_matches(pattern, text) for text in around) and exhausted(pattern, names):
            properties |= {name: {"allOf": [properties[name], rule]} for name in names}
            del kept[pattern]
    folded["properties"], folded["patternProperties"] = properties, kept
    return folded


def _folded_within(keyword: str, value: Any, exhausted: Callable[[str, list[str]], bool]) -> Any:
    def fold(inner: Any) -> Any:
        return fold_patterns(inner, exhausted) if isinstance(inner, dict) else inner

    if keyword in IN_LIST and isinstance(value, list):
        return [fold(inner) for inner in value]
    if keyword in IN_MAP and isinstance(value, dict):
        return {name: fold(inner) for name, inner in value.items()}
    return fold(value) if keyword in IN_ONE else value


def _keywords(schema: Any, place: str) -> Iterator[tuple[str, str, Any]]:
    """Every keyword with the place of its schema and its value."""
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        yield place, keyword, value
        if keyword in IN_MAP and isinstance(value, dict):
            for name, inner in value.items():
                yield from _keywords(inner, f"{place}/{keyword}/{name}")
        elif keyword in IN_LIST and isinstance(value, list):
            for index, inner in enumerate(value):
                yield from _keywords(inner, f"{place}/{keyword}/{index}")
        elif keyword in IN_ONE:
            yield from _keywords(value, f"{place}/{keyword}")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list):
        for inner in value:
            yield from _numbers(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        yield value


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:  # the compiler refuses it, or knows more than Python does
        return False
