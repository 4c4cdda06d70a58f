"""T5 through the engine: kept keys and values of the source give what the whole model gives, row by row."""

from dataclasses import replace

import pytest
import torch

from camelid.base.errors import WrongCall
from camelid.engine.decoder import KEPT_CONTEXTS, Extension
from camelid.engine.encoder_decoder import EncoderDecoder
from camelid.engine.engine import Engine
from camelid.engine.perplexity import perplexity
from camelid.lm.sampling import Sampling
from camelid.model.transformer import Transformer
from camelid.recipes.model_shape import ModelShape

START = 0


@pytest.fixture(scope="module")
def model() -> Transformer:
    shape = ModelShape(architecture="t5", hidden_size=24, num_layers=2, num_heads=3, feed_forward_width=40)
    model = Transformer(shape.spec(400)).initialize(3).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


@torch.inference_mode()
def whole(model: Transformer, source: list[int], said: list[int]) -> torch.Tensor:
    """Logits after each of what was said, by the whole model without any cache."""
    return model(torch.tensor([source]), torch.tensor([[START, *said]]))[0]


def test_every_step_equals_the_whole_model(model):
    sources = [[5, 6, 7, 8, 9, 1], [44, 3, 1], [20, 21, 22, 23, 1]]
    decoder = EncoderDecoder(model, torch.float32, tokens=200, start_id=START)
    begun = [decoder.begin(source) for source in sources]
    logits = decoder.extend([Extension(sequence, rest) for sequence, rest in begun]).logits
    said: list[list[int]] = [[], [], []]
    for _ in range(20):
        for row, source in enumerate(sources):
            torch.testing.assert_close(logits[row], whole(model, source, said[row])[-1], atol=1e-4, rtol=0)
            said[row].append(int(logits[row].argmax()))
        logits = decoder.extend(
            [Extension(sequence, row[-1:]) for (sequence, _), row in zip(begun, said, strict=True)]
        ).logits
    # What is in the cache is found again, under the same source alone.
    again, rest = decoder.begin(sources[0], said[0])
    assert len(again) == 16
    expected = whole(model, sources[0], said[0])[16:]
    torch.testing.assert_close(
        decoder.extend([Extension(again, rest, len(rest))]).logits, expected, atol=1e-4, rtol=0
    )
    assert len(decoder.begin(sources[1], said[0])[0]) == 0


def test_forks_and_cuts(model):
    source, said = [5, 6, 7, 8, 1], [10, 11, 12]
    decoder = EncoderDecoder(model, torch.float32, tokens=64, start_id=START)
    sequence, rest = decoder.begin(source, said)
    decoder.extend([Extension(sequence, rest)])
    twin = sequence.fork(3)
    expected = whole(model, source, [10, 11, 99])[-1]
    torch.testing.assert_close(decoder.extend([Extension(twin, [99])]).logits[0], expected, atol=1e-4, rtol=0)
    sequence.truncate(1)
    every = decoder.extend([Extension(sequence, [30, 31], 2)]).logits
    torch.testing.assert_close(every, whole(model, source, [30, 31])[1:], atol=1e-4, rtol=0)


def test_completions_hold_the_source_and_the_chances_of_their_tokens(model, tokenizer):
    engine = Engine(model, tokenizer)
    prompts = ["a story", "of the old mill by the river"]
    for prompt, [said] in zip(
        prompts, engine.generate(prompts, max_new_tokens=6, temperature=2.0, top_k=3), strict=True
    ):
        assert said.prompt_tokens == engine.encode(prompt)
        rows = whole(model, list(said.prompt_tokens), list(said.tokens[:-1])) / 2
        for row, token, logprob in zip(rows, said.tokens, said.sampled_logprobs, strict=True):
            highest = row.topk(3)
            expected = row[token] - highest.values.logsumexp(-1)
            assert token in highest.indices
            assert logprob == pytest.approx(float(expected), abs=1e-4)


def test_the_engine_generates_and_scores(model, tokenizer):
    engine = Engine(model, tokenizer, max_batch=2)
    prompts = ["a story", "of the old mill by the river", "x"]
    answers = engine.generate(prompts, max_new_tokens=6)
    for prompt, [answer] in zip(prompts, answers, strict=True):
        source, said = list(engine.encode(prompt)), []
        for _ in answer.tokens:
            said.append(int(whole(model, source, said)[-1].argmax()))
        assert tuple(said) == answer.tokens
    [score] = engine.score(["a story"], ["the end"])
    ids = tokenizer.encode("the end")
    logprobs = whole(model, list(engine.encode("a story")), ids[:-1]).log_softmax(-1)
    assert score.logprob == pytest.approx(
        float(sum(row[token] for row, token in zip(logprobs, ids, strict=True))), abs=1e-3
    )
    assert score.tokens == len(ids)


def test_a_constraint_leaves_the_most_probable_of_what_it_allows(model, tokenizer):
    pytest.importorskip("llguidance")
    engine = Engine(model, tokenizer)
    digits = sorted(token for digit in "0123456789" for token in tokenizer.encode(digit))
    assert len(digits) == 10
    prompts = ["a story", "of the old mill by the river", "x"]
    for prompt, [answer] in zip(prompts, engine.generate(prompts, regex="[0-9]{4}"), strict=True):
        source, said = list(engine.encode(prompt)), []
        for _ in range(4):
            logits = whole(model, source, said)[-1]
            said.append(digits[int(logits[digits].argmax())])
        assert (answer.text, answer.finish_reason) == (tokenizer.decode(said), "stop")


@pytest.fixture
def encoded(monkeypatch):
    """The shapes of the encoder's passes, in order."""
    shapes, encode = [], Transformer.encode

    def counted(self, ids, *arguments):
        shapes.append(tuple(ids.shape))
        return encode(self, ids, *arguments)

    monkeypatch.setattr(Transformer, "encode", counted)
    return shapes


def test_a_source_is_read_once_also_where_blocks_are_short(model, tokenizer, encoded):
    prompts = ["a story", "of the mill", "x"]
    expected = Engine(model, tokenizer).generate(prompts, max_new_tokens=24, logit_bias={1: -1e9})
    encoded.clear()
    engine = Engine(model, tokenizer, cache_tokens=32)
    found = engine.generate(prompts, max_new_tokens=24, logit_bias={1: -1e9})
    assert [row[0].tokens for row in found] == [row[0].tokens for row in expected]
    assert sum(rows for rows, _ in encoded) == 3
    # And again, as long as it is kept.
    engine.score(prompts, ["the end"] * 3)
    assert sum(rows for rows, _ in encoded) == 3
    assert len(engine.decoder._kept) == 3
    engine.decoder.spec = replace(engine.decoder.spec, context_length=2)
    engine.generate(["another"], max_new_tokens=2)
    assert sum(len(source.ids) for source in engine.decoder._kept) <= KEPT_CONTEXTS * 2
    engine.generate(prompts[:1], max_new_tokens=2)
    assert sum(rows for rows, _ in encoded) == 5


def test_sources_are_read_together_as_each_alone(model, tokenizer, encoded):
    sources = [[5, 6, 7, 8, 9, 1], [44, 3, 1], [20, 21, 22, 23, 1], [9, 1], [30 + i for i in range(40)]]
    kept = []
    for together in (True, False):
        decoder = EncoderDecoder(model, torch.float32, tokens=400, start_id=START)
        begun = [decoder.begin(source) for source in sources]
        encoded.clear()
        extensions = [Extension(sequence, rest) for sequence, rest in begun]
        for group in [extensions] if together else [[each] for each in extensions]:
            decoder.extend(group)
        assert len(encoded) == (4 if together else 5)
        kept.append([each.sequence.source for each in extensions])
    for mine, alone in zip(*kept, strict=True):
        torch.testing.assert_close(mine.keys, alone.keys, atol=1e-5, rtol=0)
        torch.testing.assert_close(mine.values, alone.values, atol=1e-5, rtol=0)


def test_a_step_reads_as_many_sources_as_it_has_tokens_for(model, tokenizer, encoded):
    prompts = ["of the old mill by the river, and of the cat", "a story", "x", "the end"]
    expected = Engine(model, tokenizer).generate(prompts, max_new_tokens=6)
    lengths = [len(Engine(model, tokenizer).encode(prompt)) for prompt in prompts]
    encoded.clear()
    engine = Engine(model, tokenizer, step_tokens=8)
    requests = [engine.request(prompt, Sampling(max_new_tokens=6)) for prompt in prompts]
    for request in requests:
        engine.submit(request)
    engine.step()
    # Longer than a step, and the oldest.
    assert lengths[0] > 8
    assert encoded == [(1, lengths[0])]
    while not all(request.ended for request in requests):
        engine.step()
    assert [tuple(request.tokens) for request in requests] == [row[0].tokens for row in expected]
    assert sum(rows for rows, _ in encoded) == 4
    again = engine.generate(prompts, max_new_tokens=6)
    assert [row[0].tokens for row in again] == [row[0].tokens for row in expected]
    assert sum(rows for rows, _ in encoded) == 4


def test_a_model_with_an_encoder_has_no_perplexity_and_drafts_nothing(model, tokenizer):
    engine = Engine(model, tokenizer)
    with pytest.raises(WrongCall, match="encoder"):
        perplexity(engine, ["a story"])
    with pytest.raises(WrongCall, match="encoder"):
        Engine(model, tokenizer, draft=engine)
