"""Constrained text against Python's own expressions, brute force over the vocabulary, and jsonschema."""

import json
import random
import re
import sys
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import regex
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers

from camelid.base.errors import CamelidError, WrongCall
from camelid.engine.engine import Engine
from camelid.lm.constraint import Grammars, check_text
from camelid.lm.sampling import Sampling
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.text.stream import token_bytes
from camelid.text.tokenizer import Tokenizer, load_vocabulary_file, train_tokenizer

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


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"regex": "(a"}, r"'\(a' cannot be used: unclosed group"),
        ({"regex": "a(?=b)"}, "look-around"),
        ({"regex": r"\bcat"}, "WordUnicode"),
        ({"regex": "()"}, "only the empty text"),
        ({"json_schema": {"type": "strin"}}, "json_schema cannot be used: Invalid type: strin"),
        ({"json_schema": {"not": {}}}, "the keyword 'not' cannot be enforced"),
        ({"json_schema": {"type": "integer", "minimum": 2, "maximum": 1}}, "Unsatisfiable"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_runs(
    tiny: Tiny, tokenizer: Tokenizer, changes: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny(), tokenizer)
    monkeypatch.setattr(engine, "run", lambda _: pytest.fail("it ran"))
    with pytest.raises(WrongCall, match=reason):
        engine.generate(["a"], **changes)


def test_a_grammar_is_compiled_once(
    tiny: Tiny, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from camelid.lm import constraint

    compiled = []
    original = constraint._compile
    monkeypatch.setattr(constraint, "_compile", lambda *given: (compiled.append(given), original(*given))[1])
    engine = Engine(tiny(), tokenizer)
    for _ in range(3):
        engine.generate(["a", "the"], regex="a+b", samples=2, max_new_tokens=3)
    engine.generate(["a"], json_schema={"type": "null"})
    assert len(compiled) == 2
    assert compiled[0][0] is compiled[1][0]


def test_without_the_package_the_command_is_said(
    tiny: Tiny, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(WrongCall, match=r'pip install "camelid\[constrain\]"'):
        Engine(tiny(), tokenizer).generate(["a"], regex="a")


def test_a_vocabulary_that_cannot_spell_it_says_so(shared: Path) -> None:
    vocabulary = load_vocabulary_file(shared / "weights" / "tokenizers" / "t5" / "spiece.model")
    t5 = Grammars(vocabulary)
    with pytest.raises(WrongCall, match=r"json_schema requires text .* no token for"):
        t5.constraint(Sampling(json_schema={"type": "object"}))
    constraint = t5.constraint(Sampling(regex="a[{]b"))
    assert constraint is not None
    letter = constraint.allowed[[vocabulary.decode([one]) == "a" for one in constraint.allowed]][0]
    with pytest.raises(CamelidError, match="no token for"):
        constraint.accept(letter)


@pytest.mark.parametrize("name", ["llama/tokenizer.model", "t5/spiece.model"])
def test_published_sentencepiece_vocabularies(shared: Path, name: str) -> None:
    tokenizer = load_vocabulary_file(shared / "weights" / "tokenizers" / name)
    grammars = Grammars(tokenizer)
    for pattern in (r"[0-9]{2} (cats|dogs)\.", r"( ?[a-z]{1,9}){3}"):
        for seed in range(5):
            draw = np.random.default_rng(seed)
            constraint = grammars.constraint(Sampling(regex=pattern))
            assert constraint is not None
            tokens: list[int] = []
            while not constraint.is_complete:
                tokens.append(int(draw.choice(constraint.allowed)))
                if tokens[-1] in tokenizer.stop_ids:
                    break
                constraint.accept(tokens[-1])
            assert re.fullmatch(pattern, tokenizer.decode(tokens))


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
