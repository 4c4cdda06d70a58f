"""Constrained text against Python's own expressions, brute force over the vocabulary, and jsonschema."""

import json
import random
import re
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import jsonschema
import pytest
import regex
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers

from camelid.base.errors import WrongCall
from camelid.engine.engine import Engine
from camelid.lm.constraint import Grammars, check_text
from camelid.lm.sampling import Sampling
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.text.stream import token_bytes
from camelid.text.tokenizer import Tokenizer, train_tokenizer

Tiny = Callable[..., Transformer]
TEXT = "the cat sat on a mat and then one two three dogs ran over to it; ümläut, 漢字 😀.\n"
REGEXES = [
    r"(the|a) (cat|dog)s?( sat)*\.",
    r"[0-9]{3}-[0-9]{4}",
    r"[漢字ü😀]{1,4}!?",
    r" *(yes|no)",
    r"[^a-z]{2,5}",
    r"(?i)the (?:end|cat)",
    r".{3}x*",
]
SCHEMAS: list[dict[str, Any]] = [
    {"type": "integer", "minimum": -3, "maximum": 120},
    {"enum": ["the cat", "漢字 😀", 'a "quoted" one', None, 12, {"deep": [1, 2]}]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    {"type": "string", "pattern": "^(the|a) [a-z]{2,4}$"},
    {"type": "string", "minLength": 2, "maxLength": 4},
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 5},
            "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 150},
            "tags": {"type": "array", "items": {"enum": ["x", "ü"]}, "maxItems": 2},
        },
        "required": ["name", "tags"],
        "additionalProperties": False,
    },
    {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/pair"}], "$defs": {"pair": {"const": [1, "a"]}}},
]


def sentencepiece_like(pieces: list[str]) -> Tokenizer:
    """LLaMA's kind: BPE with `▁` for spaces and bytes to fall back to; decoding leaves out the first
    space."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    backend = tokenizers.Tokenizer(
        models.BPE(
            {token: index for index, token in enumerate(tokens)}, [], unk_token="<unk>", byte_fallback=True
        )
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return Tokenizer(backend, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


VOCABULARIES = {
    "byte-level": train_tokenizer([TEXT] * 8, 320),
    "unigram": train_tokenizer([TEXT] * 8, 330, kind="unigram"),
    "sentencepiece": sentencepiece_like(
        [
            "▁",
            "▁▁",
            "▁the",
            "the",
            "▁cat",
            "s",
            "▁dog",
            "▁sat",
            ".",
            "▁yes",
            "yes",
            "▁no",
            "12",
            "▁1",
            "-",
            "漢",
            "▁漢",
        ]
    ),
}


def said(tokenizer: Tokenizer, tokens: list[int]) -> bytes:
    spelt = b"".join(token_bytes(tokenizer, token) for token in tokens)
    return spelt if tokenizer.is_byte_level or not tokenizer.marks_spaces else spelt.removeprefix(b" ")


@cache
def may_begin(pattern: str, text: bytes) -> bool:
    """Whether some text that matches begins with these bytes, of which the last may be part of a
    character."""
    cut = next((cut for cut in range(4) if is_text(text[: len(text) - cut])), None)
    if cut is None:
        return False
    head, tail = text[: len(text) - cut].decode(), text[len(text) - cut :]
    return any(regex.fullmatch(pattern, head + letter, partial=True) for letter in letters(pattern, tail))


@cache
def letters(pattern: str, tail: bytes) -> set[str]:
    """Characters that begin with these bytes, also those that the pattern names; for none, no character."""
    if not tail:
        return {""}
    found = {letter for letter in pattern + TEXT if letter.encode().startswith(tail)}
    for length in range(1, 4):
        for rest in product((0x80, 0x90, 0x9F, 0xA0, 0xBF), repeat=length):
            if is_text(whole := tail + bytes(rest)) and len(whole.decode()) == 1:
                found.add(whole.decode())
    return found


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def matches(pattern: str, text: bytes) -> bool:
    return is_text(text) and re.fullmatch(pattern, text.decode()) is not None


def allowed_by_hand(tokenizer: Tokenizer, pattern: str, tokens: list[int]) -> set[int]:
    markup = {*tokenizer.special_ids.values(), tokenizer.unk_id}
    text = {
        index
        for index in range(tokenizer.vocab_size)
        if index not in markup and may_begin(pattern, said(tokenizer, [*tokens, index]))
    }
    return text | (tokenizer.stop_ids if matches(pattern, said(tokenizer, tokens)) else set())


@pytest.mark.parametrize("kind", VOCABULARIES)
@pytest.mark.parametrize("pattern", REGEXES)
def test_what_may_come_next_is_what_brute_force_finds(kind: str, pattern: str) -> None:
    tokenizer, draw = VOCABULARIES[kind], random.Random(0)
    grammars = Grammars(tokenizer)
    for _ in range(3):
        constraint = grammars.constraint(Sampling(regex=pattern))
        assert constraint is not None
        tokens: list[int] = []
        while not constraint.is_complete and len(tokens) < 12:
            assert set(constraint.allowed.tolist()) == allowed_by_hand(tokenizer, pattern, tokens)
            choice = draw.choice(
                [one for one in constraint.allowed.tolist() if one not in tokenizer.stop_ids]
            )
            constraint.accept(choice)
            tokens.append(choice)
        text = said(tokenizer, tokens)
        assert tokenizer.decode(tokens).encode() == text or not is_text(text)
        assert not constraint.is_complete or matches(pattern, text)


@pytest.mark.parametrize("pattern", REGEXES)
def test_greedy_is_the_most_probable_allowed_token(tiny: Tiny, tokenizer: Tokenizer, pattern: str) -> None:
    engine = Engine(tiny(), tokenizer)
    [[answer]] = engine.generate(["the cat"], max_new_tokens=10, regex=pattern)
    prompt, tokens = engine.encode("the cat"), []
    while len(tokens) < 10:
        allowed = sorted(allowed_by_hand(tokenizer, pattern, tokens))
        if set(allowed) <= tokenizer.stop_ids and tokens and allowed:
            break
        logits = engine.model(torch.tensor([[*prompt, *tokens]]))[0, -1].detach()
        tokens.append(allowed[int(logits[allowed].argmax())])
        if tokens[-1] in tokenizer.stop_ids:
            break
    assert list(answer.tokens) == tokens


@pytest.mark.parametrize("pattern", REGEXES)
def test_every_text_matches_or_could_still(tiny: Tiny, tokenizer: Tokenizer, pattern: str) -> None:
    engine = Engine(tiny(), tokenizer)
    sampling = Sampling(max_new_tokens=12, temperature=2.0, top_k=50, samples=30, regex=pattern)
    reasons = set()
    for answer in engine.generate(["the cat"], sampling)[0]:
        reasons.add(answer.finish_reason)
        if answer.finish_reason == "stop":
            assert re.fullmatch(pattern, answer.text)
        else:
            assert len(answer.tokens) == 12
            assert may_begin(pattern, said(tokenizer, list(answer.tokens)))
    assert "stop" in reasons


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
@pytest.mark.parametrize("kind", VOCABULARIES)
def test_every_json_is_what_its_schema_describes(kind: str, number: int) -> None:
    tokenizer, schema = VOCABULARIES[kind], SCHEMAS[number]
    # As many published models do, this one has more rows than its vocabulary has tokens.
    spec = ModelSpec.llama(
        vocab_size=tokenizer.vocab_size + 7, hidden_size=32, num_layers=1, num_heads=2, context_length=256
    )
    engine = Engine(Transformer(spec).initialize(number, std=0.2), tokenizer)
    sampling = Sampling(max_new_tokens=200, temperature=1.5, samples=15, json_schema=schema, seed=number)
    ended = [one for one in engine.generate(["one"], sampling)[0] if one.finish_reason == "stop"]
    assert len(ended) >= 8
    for answer in ended:
        jsonschema.Draft202012Validator(schema).validate(json.loads(answer.text))


leaves = st.sampled_from(
    [
        {"type": "boolean"},
        {"type": "null"},
        {"type": "integer", "minimum": 0, "maximum": 9},
        {"enum": ["a", "漢", 1.5]},
        {"type": "string", "maxLength": 2},
        {"type": "number", "minimum": -1, "maximum": 1},
    ]
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items, "maxItems": 2}, inner),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
        st.dictionaries(st.sampled_from(["a", "b", "ü"]), inner, min_size=1).map(
            lambda table: {
                "type": "object",
                "properties": table,
                "required": sorted(table)[:1],
                "additionalProperties": False,
            }
        ),
    ),
    max_leaves=4,
)


@settings(deadline=None, max_examples=40)
@given(schema=schemas, seed=st.integers(0, 1000))
def test_a_random_walk_ends_in_what_the_schema_describes(schema: dict[str, Any], seed: int) -> None:
    tokenizer, draw = VOCABULARIES["byte-level"], random.Random(seed)
    constraint = Grammars(tokenizer).constraint(Sampling(json_schema=schema))
    assert constraint is not None
    tokens: list[int] = []
    while not constraint.is_complete and len(tokens) < 400:
        token = draw.choice(constraint.allowed.tolist())
        if token in tokenizer.stop_ids:
            break
        constraint.accept(token)
        tokens.append(token)
    else:
        if not constraint.is_complete:
            return
    jsonschema.Draft202012Validator(schema).validate(json.loads(tokenizer.decode(tokens)))


def test_a_batch_says_what_each_says_alone_and_a_stream_too(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer, max_batch=3)
    prompts = ["the cat", "one two", "a"]
    for changes in ({"regex": REGEXES[0]}, {"json_schema": SCHEMAS[5]}, {"regex": REGEXES[2]}):
        sampling = Sampling(max_new_tokens=60, temperature=1.0, samples=2, **changes)  # type: ignore[arg-type]
        batched = engine.generate(prompts, sampling)
        for prompt, answers in zip(prompts, batched, strict=True):
            [alone] = engine.generate([prompt], sampling)
            assert [one.tokens for one in answers] == [one.tokens for one in alone]
            assert "".join(engine.stream(prompt, sampling)) == answers[0].text


def test_log_probabilities_stay_those_of_the_model(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer)
    [[answer]] = engine.generate(["the cat"], regex="[0-9]{5}")
    prompt = engine.encode("the cat")
    logits = engine.model(torch.tensor([[*prompt, *answer.tokens]]))[0].detach().log_softmax(-1)
    expected = [float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(answer.tokens)]
    assert answer.logprobs == pytest.approx(expected, abs=1e-4)


def test_filters_and_penalties_work_on_what_is_allowed(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer)
    how = Sampling(regex="[0-9]{6}", temperature=1.0, top_k=1, top_p=0.9, min_p=0.5)
    [[filtered]], [[greedy]] = engine.generate(["a"], how), engine.generate(["a"], regex="[0-9]{6}")
    assert filtered.tokens == greedy.tokens
    [[fresh]] = engine.generate(["a"], regex="[0-9]{6}", presence_penalty=1e4)
    assert len(set(fresh.text)) == 6
    everything = dict.fromkeys(range(tokenizer.vocab_size), -float("inf"))
    with pytest.raises(WrongCall, match="logit_bias forbids"):
        engine.generate(["a"], regex="[0-9]", logit_bias=everything)


def test_texts_are_checked_alike() -> None:
    check_text(Sampling(regex="ü[漢字]+"), "ü漢漢")
    check_text(Sampling(json_schema=SCHEMAS[5]), '{"name": "a", "tags": []}')
    for sampling, text in (
        (Sampling(regex="ab"), "a"),
        (Sampling(regex="ab"), "abc"),
        (Sampling(json_schema=SCHEMAS[5]), '{"name": "a"}'),
    ):
        with pytest.raises(WrongCall, match=re.escape(repr(text))):
            check_text(sampling, text)
