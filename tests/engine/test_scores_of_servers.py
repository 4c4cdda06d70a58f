"""Scores through servers that count tokens and offsets in their own way are those of the engine."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from scripted_server import Answer, Script

from camelid.engine.engine import Engine
from camelid.lm.remote import RemoteLM
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import Tokenizer

PAIRS = [
    ("the cat", " sat on a mat"),
    ("the cat", " ran"),
    ("the cat ", "sat"),
    ("the cat \n", "three dogs"),
    ("one two", " three\n"),
    ("ümläut, ", "漢字 😀."),
    ("it;", " 漢字"),
    ("the", "\n\nand then"),
    ("one t", "wo three"),
    ("ran over to i", "t; ümläut"),
]
Style = Callable[[Engine, tuple[int, ...], dict[str, Any]], dict[str, Any]]


def echoed(engine: Engine, ids: tuple[int, ...]) -> dict[str, Any]:
    """The log-probabilities of a text's tokens as `echo` gives them, without texts and offsets."""
    logprobs = engine.model(torch.tensor([ids]))[0].detach().log_softmax(-1)
    own = [float(logprobs[at, token]) for at, token in enumerate(ids[1:])]
    best = [{"x": float(row.max())} for row in logprobs[:-1]]
    return {"token_logprobs": [None, *own], "top_logprobs": [None, *best]}


def offsets(tokens: list[str]) -> list[int]:
    return [sum(map(len, tokens[:at])) for at in range(len(tokens))]


def vllm(engine: Engine, ids: tuple[int, ...], found: dict[str, Any]) -> dict[str, Any]:
    """Each token decoded by itself, which drops spaces and halves of characters; BOS counts as text."""
    tokens = ["<s>", *(engine.tokenizer.decode([token]).removeprefix(" ") for token in ids[1:])]
    return {**found, "tokens": tokens, "text_offset": offsets(tokens)}


def pieces(engine: Engine, ids: tuple[int, ...], found: dict[str, Any]) -> dict[str, Any]:
    """The vocabulary's own spelling, where each character is a byte."""
    tokens = [str(engine.tokenizer.backend.id_to_token(token)) for token in ids]
    return {**found, "tokens": tokens, "text_offset": None}


def one_more(engine: Engine, ids: tuple[int, ...], found: dict[str, Any]) -> dict[str, Any]:
    """A token that was generated although none was asked for."""
    spelt = pieces(engine, ids, found)
    more = {"tokens": "x", "token_logprobs": -0.5, "top_logprobs": {"x": -0.5}}
    return {**spelt, **{key: [*spelt[key], value] for key, value in more.items()}}


def halves(engine: Engine, ids: tuple[int, ...], found: dict[str, Any]) -> dict[str, Any]:
    """Bytes of characters decoded by themselves, so that the tokens do not spell the text."""
    return {**found, "tokens": [f"�{token}" for token in ids]}


def no_top(engine: Engine, ids: tuple[int, ...], found: dict[str, Any]) -> dict[str, Any]:
    return {**pieces(engine, ids, found), "top_logprobs": None}


@pytest.fixture
def script() -> Iterator[Script]:
    with Script() as server:
        yield server
        server.shutdown()


@pytest.mark.parametrize("style", [vllm, pieces, one_more, no_top, halves])
def test_the_engines_scores(
    script: Script, tiny: Callable[..., Transformer], tokenizer: Tokenizer, style: Style
) -> None:
    engine = Engine(tiny(), tokenizer)

    def answer(path: str, body: dict[str, Any]) -> Answer:
        ids = engine.encode(body["prompt"])
        found = style(engine, ids, echoed(engine, ids))
        usage = {"prompt_tokens": len(ids)}
        return Answer({"choices": [{"text": body["prompt"], "logprobs": found}], "usage": usage})

    script.answer = answer
    prompts, continuations = zip(*PAIRS, strict=True)
    theirs = RemoteLM(script.url).score(prompts, continuations)
    for pair, own, remote in zip(PAIRS, engine.score(prompts, continuations), theirs, strict=True):
        assert (remote.tokens, remote.logprob) == (own.tokens, pytest.approx(own.logprob, abs=1e-3)), pair
        assert remote.is_greedy == (None if style is no_top else own.is_greedy)


def test_white_space_before_a_continuation_is_scored_with_it(
    tiny: Callable[..., Transformer], tokenizer: Tokenizer
) -> None:
    """As lm-evaluation-harness moves it: the word's own token is scored, not what is left of it."""
    engine = Engine(tiny(), tokenizer)
    ids = engine.encode("the cat sat on")
    begin = len(engine.encode("the cat"))
    logprobs = engine.model(torch.tensor([ids]))[0].detach().log_softmax(-1)
    expected = sum(float(logprobs[at - 1, ids[at]]) for at in range(begin, len(ids)))
    [moved, plain] = engine.score(["the cat ", "the cat"], ["sat on", " sat on"])
    assert moved == plain
    assert (moved.tokens, moved.logprob) == (len(ids) - begin, pytest.approx(expected, abs=1e-3))
