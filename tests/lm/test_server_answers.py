"""What servers return: read as far as it means something, and otherwise one message."""

from typing import Any

import pytest
from scripted_server import Answer, Script

from camelid.base.errors import CamelidError
from camelid.lm.interface import Completion
from camelid.lm.remote import RemoteLM
from camelid.text.conversation import Conversation, Message

HELLO = Conversation((Message("user", "Hello"),))


def message(content: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content}, "finish_reason": "stop", **more}]}


def ask(script: Script, body: Any) -> Completion:
    script.answers = [Answer(body)]
    return RemoteLM(script.url).generate([HELLO], max_new_tokens=5)[0][0]


@pytest.mark.parametrize(
    ("body", "text", "reason"),
    [
        (message("Hi"), "Hi", "stop"),
        (message(None), "", "stop"),
        ({"choices": [{"message": {}, "finish_reason": "stop"}]}, "", "stop"),
        (message([{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]), "Hi", "stop"),
        (message(["H", "i"]), "Hi", "stop"),
        (
            message([{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "Hi"}]),
            "Hi",
            "stop",
        ),
        (message([]), "", "stop"),
        ({**message("Hi"), "error": None}, "Hi", "stop"),
        ({**message("Hi"), "error": {}}, "Hi", "stop"),
        (message("Hi", finish_reason=None), "Hi", "stop"),
        ({"choices": [{"message": {"content": "Hi"}}]}, "Hi", "stop"),
        ({"choices": [{"message": {"content": "Hi"}}], "usage": {"completion_tokens": 5}}, "Hi", "length"),
        ({"choices": [{"message": {"content": "Hi"}}], "usage": {"completion_tokens": 4}}, "Hi", "stop"),
        ({"choices": [{"message": {"content": "Hi"}}], "usage": None}, "Hi", "stop"),
        (message("Hi", finish_reason="max_tokens"), "Hi", "length"),
        (message("Hi", finish_reason="model_length"), "Hi", "length"),
        (message("Hi", finish_reason="eos"), "Hi", "stop"),
        ({"choices": [{"message": {"content": None, "refusal": "I can't."}}]}, "I can't.", "stop"),
        ({"choices": [{"text": "Hi"}]}, "Hi", "stop"),
    ],
)
def test_what_means_something_is_read(script: Script, body: Any, text: str, reason: str) -> None:
    completion = ask(script, body)
    assert (completion.text, completion.finish_reason) == (text, reason)


def test_tokens_are_counted_by_the_server_where_it_does(script: Script) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    assert ask(script, message("Hi") | {"usage": usage}).token_counts == (7, 3)
    two = message("Hi")["choices"] * 2
    assert ask(script, {"choices": two, "usage": usage}).token_counts == (7, None)  # of both together
    for odd in (None, [], {}, {"prompt_tokens": "7", "completion_tokens": True}):
        assert ask(script, message("Hi") | {"usage": odd}).token_counts == (None, None)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ([], "has no choices"),
        ("null", "has no choices"),
        ({"choices": None}, "has no choices"),
        ({"choices": {"text": "a"}}, "has no choices"),
        ({"choices": [None]}, "has no choices"),
        ({"choices": [{"finish_reason": "stop"}]}, "neither 'text' nor 'message'"),
        ({"choices": [{"message": None}]}, "neither 'text' nor 'message'"),
        ({"choices": [{"text": None}]}, "neither 'text' nor 'message'"),
        (message({"a": 1}), "the content is not text"),
        (message(3), "the content is not text: 3"),
        (message([3]), "the content is not text: 3"),
        (message("a", finish_reason="error"), "broke the completion off"),
        ({"error": "full"}, '"full"'),
        ({"error": {"message": "zu groß"}}, "zu groß"),
        ({"detail": "no such route"}, "no such route"),
        (b"\xff\xfe", "did not return JSON"),
    ],
)
def test_what_means_nothing_is_one_message(script: Script, body: Any, what: str) -> None:
    with pytest.raises(CamelidError, match=what):
        ask(script, body)


def test_samples_are_in_order_and_as_many_as_asked(script: Script) -> None:
    two = [{"text": "b", "index": 1}, {"text": "a", "index": 0}]
    script.answers = [Answer({"choices": two})]
    lm = RemoteLM(script.url)
    assert [each.text for each in lm.generate(["x"], samples=2)[0]] == ["a", "b"]
    assert [each.text for each in lm.generate(["x"], samples=1)[0]] == ["a"]


def test_a_server_that_ignores_n_is_asked_again_with_another_seed(script: Script) -> None:
    """llama-cpp-python#1906, lmdeploy#4419, vllm-omni#4269."""
    script.answer = lambda path, body: Answer({"choices": [{"text": str(body["seed"])}]})
    [found] = RemoteLM(script.url).generate(["x"], samples=3, seed=7, temperature=1.0)
    assert [each.text for each in found] == ["7", "8", "9"]
    assert [body["n"] for _, body, _ in script.asked] == [3, 2, 1]


@pytest.mark.parametrize(
    ("models", "what"),
    [
        ({"data": []}, "the server lists no models; load one, or pass --model-name"),
        ({"data": None}, "the list of models has no 'data'.*--model-name"),
        ({}, "the list of models has no 'data'"),
        ({"data": [{"object": "model"}]}, "the server lists no models"),
        ({"data": [{"id": "a"}, {"id": "b"}]}, "has several models: a, b; choose one with --model-name"),
        ({"data": [{"id": "nomic-embed-text"}]}, "lists only nomic-embed-text, which do not generate text"),
        (
            Answer("nothing here", 404),
            "HTTP 404: nothing here; the server lists no models: pass --model-name",
        ),
        ({"error": "loading"}, "loading"),
    ],
)
def test_lists_of_models_without_a_model(script: Script, models: Any, what: str) -> None:
    script.models = models
    with pytest.raises(CamelidError, match=what):
        RemoteLM(script.url).generate(["x"])
    script.answers = [Answer({"choices": [{"text": "Hi"}]})]
    assert RemoteLM(script.url, model="m").generate(["x"])[0][0].text == "Hi"


@pytest.mark.parametrize(
    "models",
    [
        {"data": [{"id": "text-embedding-3-small"}, {"id": "llama"}]},
        {"data": [{"id": "bge-m3"}, {"id": "llama"}, {"id": "whisper-1"}]},
        {"data": [{"id": "a", "type": "embedding"}, {"id": "llama", "type": "chat"}]},
        {"data": [{"id": "a", "capabilities": {"completion_chat": False}}, {"id": "llama"}]},
        # ogx-client#66: sentence-transformers first
        {"data": [{"id": "all-MiniLM-L6-v2", "metadata": {"embedding_dimension": 384}}, {"id": "llama"}]},
        {"data": [{"id": "a", "model_type": "embedding"}, {"id": "llama", "model_type": "LLM"}]},
        {"data": [{"id": "llama", "capabilities": {"chat_completion": True, "embeddings": False}}]},
        [{"id": "llama", "type": "chat"}],
        {"data": [{"id": "llama", "root": "/m"}, {"id": "alias", "root": "/m"}]},
    ],
)
def test_the_one_model_that_generates_text(script: Script, models: Any) -> None:
    script.models = models
    assert RemoteLM(script.url).model == "llama"


def test_the_identity_is_the_address_and_the_model(script: Script) -> None:
    url = f"{script.url}/v1"
    assert RemoteLM(script.url).identity == f"{url} llama"
    assert RemoteLM(script.url, model="other").identity == f"{url} other"
    script.models = {"data": [{"id": "default", "root": "org/model"}]}
    assert RemoteLM(script.url + "/v1/").identity == f"{url} default (org/model)"
    for models in (Answer("", 404), Answer("<html>"), {"error": "none"}):
        script.models = models
        assert RemoteLM(script.url, model="other").identity == f"{url} other"


def openai(path: str, body: dict[str, Any]) -> Answer:
    """OpenAI's reasoning models take max_completion_tokens only."""
    if "max_tokens" in body:
        text = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        return Answer(
            {"error": {"message": text, "param": "max_tokens", "code": "unsupported_parameter"}}, 400
        )
    if body.get("stream"):
        return Answer('data: {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\n')
    return Answer(message(f"{body['max_completion_tokens']}"))


def test_max_completion_tokens(script: Script) -> None:
    script.answer = openai
    lm = RemoteLM(script.url)
    assert lm.generate([HELLO], max_new_tokens=9)[0][0].text == "9"
    assert "".join(lm.stream(HELLO)) == "Hi"
    assert len(script.asked) == 3, "what one refusal says is remembered"
    assert "".join(RemoteLM(script.url).stream(HELLO)) == "Hi"


@pytest.mark.parametrize(
    ("field", "error", "sampling"),
    [
        ("max_tokens", "Unrecognized request argument supplied: max_tokens", {}),
        ("seed", '{"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"]}]}', {}),
        ("n", "Unsupported parameter: n", {}),
    ],
)
def test_fields_that_change_nothing_are_left_out(
    script: Script, field: str, error: str, sampling: dict[str, Any]
) -> None:
    script.answer = lambda path, body: Answer(error, 422) if field in body else Answer(message("Hi"))
    assert RemoteLM(script.url).generate([HELLO], **sampling)[0][0].text == "Hi"


@pytest.mark.parametrize(
    ("error", "sampling"),
    [
        ("max_tokens is too large: 256. This model supports at most 100 completion tokens", {}),
        ("Unsupported value: 'temperature' does not support 0 with this model", {}),
        ("Unsupported parameter: seed", {"temperature": 1.0}),
        ("Unsupported parameter: n", {"samples": 2}),
        ("Unsupported parameter: stop", {"stop": "a"}),
    ],
)
def test_settings_that_change_the_answer_are_not_left_out(
    script: Script, error: str, sampling: dict[str, Any]
) -> None:
    script.answers = [Answer(error, 400)]
    with pytest.raises(CamelidError, match=error.split(":")[0]):
        RemoteLM(script.url).generate([HELLO], **sampling)
    assert len(script.asked) == 1
