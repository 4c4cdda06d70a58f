"""Perplexity against one uncached forward pass for every token."""

from collections.abc import Callable

import pytest
import torch

from camelid.base.errors import WrongCall
from camelid.engine.conventions import PUBLISHED, described
from camelid.engine.decoder import Predictions
from camelid.engine.engine import Engine
from camelid.engine.perplexity import Perplexity, perplexity
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import Tokenizer

TEXT = "the cat sat on the mat and one two three dogs ran over; " * 4


@torch.inference_mode()
@pytest.mark.parametrize("context_length", [7, 64, 4096])
@pytest.mark.parametrize("piece", [3, 512])
def test_every_token_is_predicted_once_with_half_a_window_before_it(
    tiny: Callable[..., Transformer],
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    context_length: int,
    piece: int,
) -> None:
    monkeypatch.setattr("camelid.engine.perplexity.PIECE", piece)
    engine = Engine(tiny(context_length=context_length), tokenizer)
    ids = engine.encode(TEXT)
    nats, window = 0.0, context_length
    for target in range(1, len(ids)):
        # The window in which this token is scored is the first that reaches it.
        first = 0
        while target >= first + window:
            first += window - window // 2
        logits = engine.model(torch.tensor([ids[first:target]]))[0, -1]
        nats -= float(logits.log_softmax(-1)[ids[target]])
    measured = perplexity(engine, [TEXT])
    assert measured.nats == pytest.approx(nats, rel=1e-4)
    assert measured.tokens == len(ids) - 1
    first_text = "" if ids[0] == tokenizer.bos_id else tokenizer.decode(ids[:1])
    assert measured.bytes == len(TEXT.encode()) - len(first_text.encode())


@torch.inference_mode()
@pytest.mark.parametrize(("convention", "length"), [("papers", 2048), ("llama.cpp", 512)])
@pytest.mark.parametrize("context_length", [9, 16, 10_000])
@pytest.mark.parametrize("bos", [False, True])
def test_published_conventions_are_whole_windows_without_overlap(
    tiny: Callable[..., Transformer], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch,
    convention: str, length: int, context_length: int, bos: bool,
) -> None:  # fmt: skip
    # One uncached pass over each window, from the definitions; short windows stand in for the published ones.
    monkeypatch.setitem(PUBLISHED, convention, PUBLISHED[convention]._replace(length=length // 32))
    engine = Engine(tiny(context_length=context_length), tokenizer)
    documents = [TEXT, "the dogs ran over to it; " * 9]
    ids = [*([tokenizer.bos_id] if bos else []), *tokenizer.encode("\n\n".join(documents))]
    monkeypatch.setattr(engine, "encode", lambda text: tuple(ids) if text == "\n\n".join(documents) else ())
    window = min(length // 32, context_length)
    nats, size, count = 0.0, 0, 0
    for index in range(len(ids) // window):
        row = ids[index * window : (index + 1) * window]
        if convention == "llama.cpp" and bos:
            row[0] = ids[0]
        logprobs = engine.model(torch.tensor([row]))[0].log_softmax(-1)
        positions = range(window // 2 if convention == "llama.cpp" else 0, window - 1)
        nats -= sum(float(logprobs[position, row[position + 1]]) for position in positions)
        count += len(positions)
        size += len(tokenizer.decode(row).encode()) - len(tokenizer.decode(row[: positions[0] + 1]).encode())
    assert len(ids) % window, "the test has a tail to leave out"
    measured = perplexity(engine, documents, convention)  # type: ignore[arg-type]
    assert measured.nats == pytest.approx(nats, rel=1e-4)
    assert (measured.tokens, measured.bytes) == (count, size)


def test_what_published_conventions_score() -> None:
    # GPTQ's code takes the loss of 2,047 shifted positions; llama.cpp counts n_ctx - n_ctx / 2 - 1 of a
    # chunk.
    papers, llama = PUBLISHED["papers"], PUBLISHED["llama.cpp"]
    assert papers.length - papers.first(papers.length) == 2047
    assert llama.length - llama.first(llama.length) == 255


def test_a_convention_says_what_it_did_and_what_it_needs(
    tiny: Callable[..., Transformer], tokenizer: Tokenizer
) -> None:
    assert described("papers", 4096) == (
        "the papers' convention: windows of 2,048 tokens without overlap, the tail left out"
    )
    assert "256 tokens (the model's context; the convention has 512) without" in described("llama.cpp", 256)
    with pytest.raises(WrongCall, match=r"the text has \d+ tokens, and the windows .*'papers' 2,048"):
        perplexity(Engine(tiny(context_length=4096), tokenizer), [TEXT], "papers")


def test_units() -> None:
    measured = Perplexity(nats=6.931471805599453, tokens=10, bytes=5)
    assert measured.perplexity == pytest.approx(2.0)
    assert measured.bits_per_byte == pytest.approx(2.0)


def test_an_empty_text_is_refused(tiny: Callable[..., Transformer], tokenizer: Tokenizer) -> None:
    with pytest.raises(WrongCall, match="nothing to predict"):
        perplexity(Engine(tiny(), tokenizer), [""])


def test_documents_count_each_by_itself(tiny: Callable[..., Transformer], tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer)
    parts = [perplexity(engine, [text]) for text in (TEXT, "the dogs ran")]
    both = perplexity(engine, [TEXT, "", "the dogs ran"])
    assert both.nats == pytest.approx(sum(part.nats for part in parts))
    assert (both.tokens, both.bytes) == (sum(p.tokens for p in parts), sum(p.bytes for p in parts))


def test_one_text_is_no_list_of_documents(tiny: Callable[..., Transformer], tokenizer: Tokenizer) -> None:
    with pytest.raises(WrongCall, match=r"write \[text\]"):
        perplexity(Engine(tiny(), tokenizer), "the cat")


def test_an_error_gives_the_cache_back(
    tiny: Callable[..., Transformer], tokenizer: Tokenizer, monkeypatch
) -> None:
    engine = Engine(tiny(), tokenizer)

    def failing(self: Predictions, tokens: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Predictions, "logprobs", failing)
    with pytest.raises(MemoryError):
        perplexity(engine, ["the cat sat on a mat " * 3])
    assert engine.decoder.pool.used == 0
