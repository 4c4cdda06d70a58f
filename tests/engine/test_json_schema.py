"""JSON schemas: each keyword is exact or refused by its name; random texts are judged by the jsonschema
package."""

import json
import random
from typing import Any

import jsonschema
import numpy as np
import pytest

from camelid.base.errors import WrongCall
from camelid.lm.constraint import _all_bytes, _compile, check_text
from camelid.lm.json_schema import ENFORCED, UNSUPPORTED
from camelid.lm.sampling import Sampling

SCORE = {"type": "integer", "minimum": 0, "maximum": 9}
ONE_NAME = {
    "type": "object",
    "properties": {"score": SCORE},
    "required": ["score"],
    "additionalProperties": False,
    "patternProperties": {"^score$": {"type": "integer"}},
}
SCHEMAS: list[dict[str, Any]] = [
    ONE_NAME,
    {"type": "array", "items": ONE_NAME, "maxItems": 2},
    {**ONE_NAME, "patternProperties": {"^(score|total)$": {"type": "integer"}}},
    {**ONE_NAME, "patternProperties": {"^score$": {"minimum": 7}, "^t": {"type": "string"}}},
    {**ONE_NAME, "patternProperties": {"^score|total$": {"type": "integer"}}},
    {"type": "object", "patternProperties": {"^s": SCORE}, "additionalProperties": {"type": "null"}},
    {"type": "object", "required": ["s"], "patternProperties": {"^s": SCORE}, "additionalProperties": False},
    {"type": "object", "minProperties": 1, "maxProperties": 2, "additionalProperties": SCORE},
    {"type": "integer", "minimum": 2**53 - 1, "maximum": 2**53},
    {"enum": [2**53, -(2**53), 0.1, "a", None, {"a": [True]}]},
    {"type": "number", "multipleOf": 0.25, "exclusiveMinimum": 0, "maximum": 2},
    {"type": "array", "prefixItems": [SCORE], "items": False, "minItems": 1},
    {"$defs": {"x": SCORE}, "$ref": "#/$defs/x", "minimum": 5},
    {"allOf": [{"type": "integer"}, {"maximum": 3}], "anyOf": [{"minimum": 0}, {"multipleOf": 2}]},
    {"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^[a-c]"},
]


def random_text(schema: dict[str, Any], seed: int) -> str:
    """A text that the schema allows, by random bytes; few of a kind, so that it ends."""
    matcher = _compile(_all_bytes(), Sampling(json_schema=schema))
    draw, text = random.Random(seed), b""
    while len(text) < 500:
        bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
        allowed = [*map(int, np.flatnonzero(bits[:256]))]
        if matcher.is_accepting() and (not allowed or draw.random() < 0.5):
            return text.decode()
        assert allowed, f"{text!r} has no end: {matcher.get_error()}"
        plain = [byte for byte in allowed if byte in b'}]",:abcst0123456789ore{[.']
        text += bytes([draw.choice(plain or allowed)])
        matcher.consume_token(text[-1])
    return ""


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_every_text_that_a_schema_allows_is_valid_and_ends(schema: dict[str, Any]) -> None:
    judge = jsonschema.Draft202012Validator(schema)
    texts = [random_text(schema, seed) for seed in range(30)]
    for text in filter(None, texts):
        judge.validate(json.loads(text))
    assert any(texts)


def test_a_pattern_with_one_name() -> None:
    """Case 32: llguidance#265."""
    check_text(Sampling(json_schema=ONE_NAME), '{"score": 5}')
    for text in ('{"score": 10}', '{"score": 5, "score": 5}', "{}"):
        with pytest.raises(WrongCall, match="is not what"):
            check_text(Sampling(json_schema=ONE_NAME), text)


@pytest.mark.parametrize("big", [1234567890123456789, -(2**53) - 1, 10**30])
@pytest.mark.parametrize(
    "around",
    [
        lambda big: {"enum": [1, big]},
        lambda big: {"const": {"a": [big]}},
        lambda big: {"properties": {"b": {"minimum": big}}},
        lambda big: {"anyOf": [{"items": {"maximum": big}}]},
        lambda big: {"$defs": {"x": {"multipleOf": big}}},
    ],
)
def test_numbers_that_would_be_rounded_are_refused(big: int, around: Any) -> None:
    """Case 31: jsonschema#1388."""
    with pytest.raises(WrongCall, match=rf"json_schema cannot be used: #.*{big} is beyond"):
        check_text(Sampling(json_schema=around(big)), "1")


def test_numbers_that_are_exact_are_kept() -> None:
    for exact in (2**53, -(2**53), 0.1, 1e-7, 123456.789):
        check_text(
            Sampling(json_schema={"enum": [exact]}), json.dumps(exact) if exact != 1e-7 else "0.0000001"
        )
    check_text(Sampling(json_schema={"default": 10**30, "examples": [10**40], "type": "null"}), "null")
    for text in ('{"const": 1e400}', '{"const": NaN}', '{"const": "\\ud800"}', '{"a":' * 99999, "9" * 5000):
        with pytest.raises(WrongCall, match="json_schema is"):
            Sampling(json_schema=text)


def test_keywords_that_are_not_enforced_are_refused_by_name() -> None:
    values: dict[str, Any] = {"if": {}, "uniqueItems": True, "minContains": 1, "$vocabulary": {}}
    for keyword in UNSUPPORTED:
        for schema in ({keyword: values.get(keyword, {})}, {"items": {"anyOf": [{keyword: {}}]}}):
            with pytest.raises(
                WrongCall, match=rf"#.*the keyword '{keyword.replace('$', '[$]')}' cannot be enforced"
            ):
                check_text(Sampling(json_schema=schema), "1")
    with pytest.raises(WrongCall, match=r"#/properties/a: the keyword 'requird' is unknown.*required"):
        check_text(Sampling(json_schema={"properties": {"a": {"requird": ["b"]}}}), "{}")
    with pytest.raises(WrongCall, match='write "type":'):
        check_text(Sampling(json_schema={"type": "string", "nullable": True}), "null")
    # Names of properties are not keywords, and annotations restrict nothing.
    named = {"type": "object", "properties": {"not": {"title": "x", "x-order": 1}}, "required": ["not"]}
    check_text(Sampling(json_schema=named), '{"not": 1}')


def test_the_table_names_every_keyword_of_the_standard() -> None:
    vocabularies = jsonschema.Draft202012Validator.META_SCHEMA["allOf"]
    assert len(vocabularies) == 7
    known = {*jsonschema.Draft202012Validator.VALIDATORS, *jsonschema.Draft7Validator.VALIDATORS}
    assert known <= ENFORCED | UNSUPPORTED


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        # vllm#12201, outlines-core#147 and keywords that kekzl/imp#1567 found discarded
        ({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}, '["a", "b"]', '["a"]'),
        ({"type": "number", "minimum": 0}, "0.5", "-0.5"),
        ({"type": "integer", "exclusiveMaximum": 3}, "2", "3"),
        ({"type": "string", "format": "date"}, '"2024-01-31"', '"x"'),
        ({"allOf": [{"type": "integer"}, {"minimum": 2}]}, "2", "1"),
    ],
)
def test_keywords_of_public_reports_are_enforced(schema: dict[str, Any], valid: str, invalid: str) -> None:
    check_text(Sampling(json_schema=schema), valid)
    with pytest.raises(WrongCall, match="is not what"):
        check_text(Sampling(json_schema=schema), invalid)
