"""What constrained decoding refuses, and vocabularies as they are published."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.engine.engine import Engine
from camelid.lm.constraint import Grammars
from camelid.lm.sampling import Sampling
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import Tokenizer, load_vocabulary_file

Tiny = Callable[..., Transformer]


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
