"""The engine against the uncached forward pass, itself alone, and recorded references."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers.processors import TemplateProcessing

from camelid.base.errors import WrongCall
from camelid.engine.blocks import CachedSequence
from camelid.engine.decoder import Extension
from camelid.engine.engine import Engine
from camelid.engine.generation import Generation
from camelid.lm.sampling import Sampling
from camelid.model.transformer import Transformer
from camelid.recipes.model_shape import ModelShape
from camelid.text.conversation import Conversation, Message
from camelid.text.tokenizer import Tokenizer, load_tokenizer

Tiny = Callable[..., Transformer]
PROMPTS = ["the cat", "one two three dogs ran over", "a", "and then it sat on the mat; ümläut", "the cat"]


def uncached(
    model: Transformer, prompt: tuple[int, ...], new_tokens: int, stops: frozenset[int]
) -> list[int]:
    ids = list(prompt)
    for _ in range(new_tokens):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] in stops:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True, "num_kv_heads": 1}, {"num_kv_heads": 4}])
def test_batched_equals_single_equals_uncached(
    tiny: Tiny, tokenizer: Tokenizer, changes: dict[str, object]
) -> None:
    engine = Engine(tiny(**changes), tokenizer, max_batch=3)
    batched = engine.generate(PROMPTS, max_new_tokens=24)
    for prompt, [completion] in zip(PROMPTS, batched, strict=True):
        [[alone]] = engine.generate([prompt], max_new_tokens=24)
        assert completion.tokens == alone.tokens
        assert list(alone.tokens) == uncached(engine.model, engine.encode(prompt), 24, tokenizer.stop_ids)
        assert completion.logprobs == pytest.approx(alone.logprobs, abs=1e-4)


def test_reference_ids_of_a_real_model(stories: Engine, shared: Path) -> None:
    path = shared / "weights" / "tinystories-656k" / "reference.json"
    references = json.loads(path.read_text())["results"]
    answers = stories.generate([row["prompt"] for row in references], max_new_tokens=100)
    assert [list(answer.tokens) for [answer] in answers] == [row["greedy_tokens"] for row in references]


def test_draws_do_not_depend_on_the_batch(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer, max_batch=4)
    sampling = Sampling(max_new_tokens=20, temperature=1.0, top_p=0.95, samples=3, seed=5)
    batched = engine.generate(PROMPTS, sampling)
    for prompt, completions in zip(PROMPTS, batched, strict=True):
        [alone] = engine.generate([prompt], sampling)
        assert [c.tokens for c in completions] == [c.tokens for c in alone]
    assert len({c.tokens for completions in batched[:4] for c in completions}) == 12
    assert engine.generate(PROMPTS, sampling, seed=6) != batched


def test_logprobs_are_those_of_the_forward_pass(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer)
    [[answer]] = engine.generate(["the cat"], max_new_tokens=12, temperature=1.5, top_k=20, seed=1)
    prompt = engine.encode("the cat")
    logits = engine.model(torch.tensor([[*prompt, *answer.tokens]]))[0].detach().log_softmax(-1)
    expected = [float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(answer.tokens)]
    assert answer.logprobs == pytest.approx(expected, abs=1e-4)


def test_score_is_the_forward_pass(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer)
    prompts = ["the cat", "the cat", "one two", "the cat"]
    continuations = [" sat on a mat", " ran", " three dogs", " sat"]
    scores = engine.score(prompts, continuations)
    for prompt, continuation, score in zip(prompts, continuations, scores, strict=True):
        begin, whole = len(engine.encode(prompt)), engine.encode(prompt + continuation)
        logprobs = engine.model(torch.tensor([whole]))[0, begin - 1 : -1].detach().log_softmax(-1)
        own = logprobs.gather(1, torch.tensor(whole[begin:])[:, None])
        assert score.logprob == pytest.approx(float(own.sum()), abs=1e-3)
        assert score.tokens == len(whole) - begin
        assert score.is_greedy == (logprobs.argmax(1).tolist() == list(whole[begin:]))


def test_what_is_said_greedily_scores_as_greedy(stories: Engine) -> None:
    [[answer]] = stories.generate(["Once upon a time"], max_new_tokens=20)
    [score, other] = stories.score(["Once upon a time"] * 2, [answer.text, " in Paris"])
    assert score.is_greedy
    assert not other.is_greedy
    assert score.logprob == pytest.approx(sum(answer.logprobs), abs=1e-3)


def test_streamed_text_is_the_completion(stories: Engine) -> None:
    for stop in ((), ("They",), ("y l", "zzz")):
        sampling = Sampling(max_new_tokens=60, stop=stop)
        [[whole]] = stories.generate(["Once upon a time"], sampling)
        assert "".join(stories.stream("Once upon a time", sampling)) == whole.text


def test_stop_strings_cross_tokens_and_stay_out_of_the_text(stories: Engine) -> None:
    [[full]] = stories.generate(["Once upon a time"], max_new_tokens=60)
    stop = full.text[51:60]
    [[cut]] = stories.generate(["Once upon a time"], max_new_tokens=60, stop=[stop, "never said"])
    assert (cut.text, cut.finish_reason) == (full.text[: full.text.index(stop)], "stop")
    assert full.tokens[: len(cut.tokens)] == cut.tokens


def test_a_stop_string_of_byte_tokens_is_seen_at_once(shared: Path) -> None:
    llama = load_tokenizer(shared / "weights" / "tokenizers" / "llama")
    generation = Generation([1], Sampling(stop=("\n",)), 0, limit=50, tokenizer=llama)
    hello, newline = llama.backend.token_to_id("▁hello"), llama.backend.token_to_id("<0x0A>")
    assert generation.accept(hello, 0.0, 0.0) + generation.accept(newline, 0.0, 0.0) == "hello"
    assert generation.finish_reason == "stop"


def test_generation_ends_at_a_stop_token_and_at_the_context(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer)
    [[cut]] = engine.generate(["the cat"], max_new_tokens=500)
    room = 96 - len(engine.encode("the cat"))
    assert cut.finish_reason == ("stop" if cut.tokens[-1] in tokenizer.stop_ids else "length")
    assert len(cut.tokens) == room or cut.finish_reason == "stop"
    [[sampled]] = engine.generate(["the cat"], max_new_tokens=90, temperature=50.0, seed=2)
    ends = [token in tokenizer.stop_ids for token in sampled.tokens]
    assert not any(ends[:-1])
    assert "<|" not in sampled.text


def test_a_prompt_beyond_the_context_is_refused_with_the_excess(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer)
    prompt = "x" * 100
    excess = len(engine.encode(prompt)) - 95
    with pytest.raises(WrongCall, match=rf"{excess} tokens too many"):
        engine.generate([prompt])
    with pytest.raises(WrongCall, match="too many"):
        engine.score([prompt], ["x"])


def test_conversations_are_opened_for_the_answer(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer)
    conversation = Conversation((Message("user", "the cat"),))
    text = tokenizer.decode(engine.encode(conversation), skip_special_tokens=False)
    assert text == "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"
    assert len(engine.generate([conversation], max_new_tokens=3)[0]) == 1


def test_empty_prompts_begin_with_bos(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer)
    assert engine.encode("") == (tokenizer.bos_id,)
    assert engine.generate([]) == []


def test_padding_may_reach_beyond_learned_positions(tokenizer: Tokenizer) -> None:
    sizes = {"hidden_size": 32, "num_layers": 1, "num_heads": 4, "feed_forward_width": 64}
    spec = ModelShape(architecture="gpt2", context_length=128, **sizes).spec(tokenizer.vocab_size)
    model = Transformer(spec).initialize(0, std=0.2).eval()
    engine, ids = Engine(model, tokenizer), [7 * index % 300 + 10 for index in range(127)]
    late, fresh = (CachedSequence(engine.decoder.pool) for _ in range(2))
    engine.extend(late, ids[:118])
    # Rows of 9 and 16 tokens are computed together, the first as if it had 16.
    found = engine.decoder.extend([Extension(late, ids[118:]), Extension(fresh, ids[:16])])
    for logits, text in zip(found.logits, (ids, ids[:16]), strict=True):
        assert torch.allclose(logits, model(torch.tensor([text]))[0, -1], atol=1e-4)


def test_an_empty_prompt_scores_every_token_after_bos(tiny: Tiny, tokenizer: Tokenizer) -> None:
    # No BOS before a text, yet one to begin with.
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    bare = Tokenizer(backend, tokenizer.config)
    engine = Engine(tiny(), bare)
    [score] = engine.score([""], ["cat sat"])
    ids = bare.encode("cat sat")
    assert score.tokens == len(ids) > 1
    logits = engine.model(torch.tensor([[bare.bos_id, *ids[:-1]]]))[0].detach().log_softmax(-1)
    assert score.logprobs == pytest.approx(
        [float(row[i]) for row, i in zip(logits, ids, strict=True)], abs=1e-4
    )


def test_a_bias_against_everything_is_refused(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer)
    everything = {index: -float("inf") for index in range(tokenizer.vocab_size)}
    for temperature in (0.0, 1.0):
        with pytest.raises(WrongCall, match="forbids every token"):
            engine.generate(["the"], logit_bias=everything, temperature=temperature)
    # As far as settings go, numbers stay finite.
    for settings in ({"temperature": 1e-10}, {"repetition_penalty": 1e-10}, {"logit_bias": {5: 1e10}}):
        [[said]] = engine.generate(["the cat"], **{"temperature": 1.0, "max_new_tokens": 3, **settings})
        assert len(said.tokens) == 3


def test_what_is_no_prompt_is_refused_where_it_stands(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer)
    with pytest.raises(WrongCall, match="prompt 1 is None"):
        engine.generate(["the", None])
    with pytest.raises(WrongCall, match="1 prompts and 2 continuations"):
        engine.score(["a"], ["b", "c"])
    with pytest.raises(WrongCall, match="no such sampling setting: bogus"):
        engine.stream("the", bogus=1)


def test_a_bias_and_penalties_reach_greedy_text(stories: Engine) -> None:
    [[plain]] = stories.generate(["Once upon a time"], max_new_tokens=40)
    first = plain.tokens[0]
    [[forbidden]] = stories.generate(
        ["Once upon a time"], max_new_tokens=40, logit_bias={first: -float("inf")}
    )
    assert first not in forbidden.tokens
    [[fresh]] = stories.generate(["Once upon a time"], max_new_tokens=40, presence_penalty=1e4)
    assert len(set(fresh.tokens)) == len(fresh.tokens)
    with pytest.raises(WrongCall, match=f"the model has {stories.model.spec.vocab_size}"):
        stories.generate(["Once"], logit_bias={stories.model.spec.vocab_size: 1.0})
