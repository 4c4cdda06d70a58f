"""The engine against the uncached forward pass, itself alone, and recorded references."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from camelid.errors import WrongCall
from camelid.infer.engine import Engine
from camelid.lm import Sampling
from camelid.model.transformer import Transformer
from camelid.text.conversation import Conversation, Message
from camelid.text.tokenizer import Tokenizer

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
