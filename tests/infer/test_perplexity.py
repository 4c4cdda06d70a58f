"""Perplexity against one uncached forward pass for every token."""

from collections.abc import Callable

import pytest
import torch

from camelid.errors import WrongCall
from camelid.infer.engine import Engine
from camelid.infer.perplexity import Perplexity, perplexity
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import Tokenizer

TEXT = "the cat sat on the mat and one two three dogs ran over; " * 4


@torch.inference_mode()
@pytest.mark.parametrize("context_length", [7, 64, 4096])
@pytest.mark.parametrize("piece", [3, 512])
def test_every_token_is_predicted_once_with_half_a_window_before_it(
    tiny: Callable[..., Transformer], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, context_length: int, piece: int
) -> None:  # fmt: skip
    monkeypatch.setattr("camelid.infer.perplexity.PIECE", piece)
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
