"""Completions with `echo` and `logprobs`, as evaluation harnesses ask for them."""

import pytest
from openai import OpenAI
from running_server import post

import camelid
from camelid.engine.engine import Engine

TEXT = "the cat sat on a mat and then"


@pytest.fixture(scope="module")
def client(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_prompts_as_text_and_as_tokens(client: OpenAI, engine: Engine) -> None:
    [[own]] = engine.generate([TEXT], max_new_tokens=9)
    settings = {"model": "tiny", "max_tokens": 9, "temperature": 0}
    ids = [*engine.encode(TEXT)]
    for prompt, count in ((TEXT, 1), ([TEXT, TEXT], 2), (ids, 1), ([ids, ids], 2)):
        answer = client.completions.create(prompt=prompt, **settings)  # type: ignore[call-overload]
        assert [choice.text for choice in answer.choices] == [own.text] * count
        assert [choice.index for choice in answer.choices] == [*range(count)]
        assert answer.usage.prompt_tokens == len(ids) * count
    streamed = client.completions.create(prompt=TEXT, stream=True, **settings)  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].text for chunk in streamed) == own.text


def test_echo_scores_the_prompt(url: str, engine: Engine) -> None:
    body = {"prompt": TEXT, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    [choice] = post(f"{url}/v1/completions", json=body).json()["choices"]
    [[own]] = engine.generate([TEXT], max_new_tokens=1)
    assert choice["text"] == TEXT + own.text
    report, ids = choice["logprobs"], engine.encode(TEXT)
    assert len(report["tokens"]) == len(ids) + 1
    assert report["token_logprobs"][0] is None
    [score] = engine.score(["the"], [TEXT.removeprefix("the")])
    first = len(engine.encode("the"))
    assert sum(report["token_logprobs"][first:-1]) == pytest.approx(score.logprob, abs=1e-3)
    for offset, token in zip(report["text_offset"], report["tokens"], strict=True):
        assert choice["text"].startswith(token, offset) or token == "<|endoftext|>"  # no text
    # What a harness derives greediness from: the token's probability is the highest.
    for token, logprob, top in zip(
        report["tokens"][1:], report["token_logprobs"][1:], report["top_logprobs"][1:], strict=True
    ):
        assert (logprob == pytest.approx(max(top.values()), abs=1e-6)) == (token in top)


def test_a_harness_reads_its_scores(url: str, engine: Engine) -> None:
    """lm-evaluation-harness 0.4.13, `local-completions`: what it sends for a batch, and reads."""
    pairs = [(TEXT, " one two"), ("the cat", " sat on a mat"), ("dogs ran", " over")]
    whole = [engine.encode(context + ending) for context, ending in pairs]
    lengths = [len(engine.encode(context)) for context, _ in pairs]
    body = {"model": "tiny", "prompt": [[*ids] for ids in whole], "temperature": 0, "max_tokens": 1}
    body |= {"logprobs": 1, "seed": 1234, "echo": True}
    choices = post(f"{url}/v1/completions", json=body).json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    for choice, length, score in zip(choices, lengths, engine.score(*zip(*pairs, strict=True)), strict=True):
        report = choice["logprobs"]
        logprobs, top = report["token_logprobs"][length:-1], report["top_logprobs"][length:-1]
        assert sum(logprobs) == pytest.approx(score.logprob, abs=1e-3)
        greedy = all(own == max(each.values()) for own, each in zip(logprobs, top, strict=True))
        assert greedy == score.is_greedy


def test_our_own_client_scores_as_the_engine(url: str, engine: Engine) -> None:
    remote = camelid.LM(url)
    prompts, endings = [TEXT, "one two"], [" one two three", " three dogs"]
    for own, other in zip(engine.score(prompts, endings), remote.score(prompts, endings), strict=True):
        assert other.logprob == pytest.approx(own.logprob, abs=1e-3)
        assert (other.tokens, other.is_greedy) == (own.tokens, own.is_greedy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": []}, "empty list"),
        ({"prompt": [[]]}, "the prompt has no tokens"),
        ({"prompt": [99999]}, "the prompt has token 99999; the model's are 0 to"),
        ({"prompt": 3}, "prompt is 3"),
        ({"max_tokens": 0}, "needs echo"),
        ({"stream": True, "echo": True}, "not streamed"),
        ({"suffix": "x"}, "suffix is not supported"),
        ({"best_of": 2}, "best_of is not supported"),
    ],
)
def test_what_cannot_be_done_is_refused(url: str, change: dict[str, object], words: str) -> None:
    response = post(f"{url}/v1/completions", json={"prompt": TEXT} | change)
    assert (response.status_code, words in response.json()["error"]["message"]) == (400, True)
