"""Anthropic's `/v1/messages` over a real socket, asked with the official client."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic
from running_server import CITY, Server, post

from camelid.engine.engine import Engine
from camelid.serve.app import make_app
from camelid.serve.guard import Rules, digest_of
from camelid.serve.models import Models, Served
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import Tokenizer

GREEDY = {"temperature": 0}
"""The client no longer knows it; the server does."""
QUESTION = {"role": "user", "content": "the cat sat"}
TOOL = {"name": "weather", "description": "the weather", "input_schema": CITY}

THINKING = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + ' ' + message.content + '<|im_end|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant <think>' }}
{%- if enable_thinking is defined and not enable_thinking %}{{ '</think>' }}{% endif %}{% endif %}"""
"""A chat template that lets a model think, or not."""


@pytest.fixture(scope="module")
def client(calling_url: str) -> Anthropic:
    return Anthropic(base_url=calling_url, api_key="none", max_retries=0)


def ask(client: Anthropic, **changes: Any) -> Any:
    settings = {"model": "caller", "max_tokens": 12, "messages": [QUESTION], "extra_body": GREEDY} | changes
    return client.messages.create(**settings)


def own(calling: Engine, rows: list[dict[str, Any]], **sampling: Any) -> Any:
    [[completion]] = calling.generate([Conversation.from_messages(rows)], **sampling)
    return completion


def test_a_message_is_the_engines(client: Anthropic, calling: Engine) -> None:
    system = {"role": "system", "content": "one two three"}
    answer = ask(client, system="one two three")
    completion = own(calling, [system, QUESTION], max_new_tokens=12)
    [block] = answer.content
    assert (block.type, block.text) == ("text", completion.text)
    assert (answer.stop_reason, answer.stop_sequence, answer.role) == ("max_tokens", None, "assistant")
    usage = answer.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == len(completion.prompt_tokens)
    assert usage.output_tokens == 12
    parts = [{"type": "text", "text": "one two"}, {"type": "text", "text": " three"}]
    assert ask(client, system=parts).content[0].text == completion.text


def test_a_stream_adds_up_to_the_message(client: Anthropic) -> None:
    whole = ask(client, max_tokens=30)
    with client.messages.stream(
        model="caller", max_tokens=30, messages=[QUESTION], extra_body=GREEDY
    ) as stream:
        kinds = [event.type for event in stream if event.type != "text"]
        streamed = stream.get_final_message()
    assert streamed.content[0].text == whole.content[0].text
    assert (streamed.stop_reason, streamed.usage.output_tokens) == ("max_tokens", 30)
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}


def test_stop_sequences_are_named(client: Anthropic) -> None:
    text = ask(client, max_tokens=30).content[0].text
    stop = text[9:11]
    answer = ask(client, max_tokens=30, stop_sequences=["zq", stop])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", stop)
    assert answer.content[0].text == text[: text.index(stop)]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_tool_is_called(client: Anthropic, choice: dict[str, str]) -> None:
    other = TOOL | {"name": "wind"}
    tools = [TOOL, other] if choice["type"] == "tool" else [TOOL]
    settings: Any = {"tools": tools, "tool_choice": choice, "max_tokens": 200}
    answer = ask(client, **settings)
    [block] = answer.content
    assert (answer.stop_reason, block.type, block.name) == ("tool_use", "tool_use", "weather")
    assert block.input in ({"city": "Rome"}, {"city": "Oslo"})
    with client.messages.stream(model="caller", messages=[QUESTION], extra_body=GREEDY, **settings) as stream:
        streamed = stream.get_final_message()
    assert (streamed.stop_reason, streamed.content[0].input) == ("tool_use", block.input)
    result = {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "dogs"}]}
    follow_up = [QUESTION, {"role": "assistant", "content": [block.to_dict()]}]
    follow_up.append({"role": "user", "content": [result, {"type": "text", "text": "on a mat"}]})
    assert ask(client, messages=follow_up, tools=[TOOL]).usage.output_tokens == 12


def test_the_context_ends_a_message(client: Anthropic, calling: Engine) -> None:
    question = {"role": "user", "content": "dogs "}
    while len(calling.encode(Conversation.from_messages([question]))) < calling.context_length - 2:
        question["content"] += "x"
    answer = ask(client, max_tokens=5000, messages=[question])
    assert answer.stop_reason == "model_context_window_exceeded"


def test_a_schema_is_kept_to(client: Anthropic) -> None:
    form = {"format": {"type": "json_schema", "schema": CITY}}
    answer = ask(client, max_tokens=100, output_config=form)
    assert json.loads(answer.content[0].text)["city"] in ("Rome", "Oslo")


def test_tokens_are_counted(client: Anthropic, calling: Engine) -> None:
    counted = client.messages.count_tokens(model="caller", messages=[QUESTION])
    assert counted.input_tokens == len(calling.encode(Conversation.from_messages([QUESTION])))
    with_tool = client.messages.count_tokens(model="caller", messages=[QUESTION], tools=[TOOL])
    assert with_tool.input_tokens > counted.input_tokens + 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"messages": [{"role": "user", "content": []}]}, "messages is []"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "messages is"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages is"),
        ({"messages": [QUESTION, {"role": "assistant", "content": "x"}]}, "nothing to answer"),
        ({"messages": [{"role": "user", "content": "cat " * 2000}]}, "tokens too many"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools is"),
        ({"tool_choice": {"type": "any"}}, "tool_choice needs tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice names 'x'"),
        ({"tools": [TOOL | {"input_schema": {"not": {}}}], "tool_choice": {"type": "any"}}, "not"),
        ({"thinking": {"type": "enabled"}}, "thinking is {'type': 'enabled'}"),
        ({"zq": 1}, "zq is not supported here; the fields are"),
    ],
)
def test_what_cannot_be_done_is_refused(calling_url: str, change: dict[str, Any], words: str) -> None:
    body = {"model": "caller", "max_tokens": 4, "messages": [QUESTION]} | change
    response = post(f"{calling_url}/v1/messages", json=body)
    assert response.status_code == 400, response.text
    content = response.json()
    assert (content["type"], content["error"]["type"]) == ("error", "invalid_request_error")
    assert words in content["error"]["message"]


def test_errors_are_the_clients_own(client: Anthropic, engine: Engine) -> None:
    with pytest.raises(anthropic.NotFoundError, match="no model 'other'"):
        ask(client, model="other")
    rules = Rules(keys={"ann": digest_of("secret")})
    with Server(make_app(Models([Served("tiny", engine)]), rules)) as server:
        with pytest.raises(anthropic.AuthenticationError, match="a key is needed"):
            ask(Anthropic(base_url=server.url, api_key="wrong", max_retries=0), model="tiny")
        right = Anthropic(base_url=server.url, api_key="secret", max_retries=0)
        assert ask(right, model="tiny").usage.output_tokens == 12


@pytest.fixture(scope="module")
def thinker(calling: Engine) -> Iterator[Anthropic]:
    """A client of a model whose template lets it think, unless it is told not to."""
    tokenizer = Tokenizer(calling.tokenizer.backend, calling.tokenizer.config, chat_template=THINKING)
    with Engine(calling.model, tokenizer) as own, Server(make_app(Models([Served("caller", own)]))) as server:
        yield Anthropic(base_url=server.url, api_key="none", max_retries=0)


@pytest.mark.parametrize("thinking", [None, {"type": "adaptive"}, {"type": "enabled", "budget_tokens": 1024}])
def test_thoughts_are_blocks(thinker: Anthropic, thinking: dict[str, Any] | None) -> None:
    settings: dict[str, Any] = {"max_tokens": 2000} | ({"thinking": thinking} if thinking else {})
    answer = ask(thinker, **settings)
    assert answer.content[0].type == "thinking"
    assert answer.content[0].thinking
    with thinker.messages.stream(
        model="caller", messages=[QUESTION], extra_body=GREEDY, **settings
    ) as stream:
        streamed = stream.get_final_message()
    assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in answer.content]
    off = ask(thinker, thinking={"type": "disabled"})
    assert [block.type for block in off.content] == ["text"]


def test_thoughts_that_a_model_does_not_have(client: Anthropic, thinker: Anthropic) -> None:
    assert ask(client, thinking={"type": "disabled"}).content[0].type == "text"
    for kind in ({"type": "adaptive"}, {"type": "enabled", "budget_tokens": 1024}):
        with pytest.raises(anthropic.BadRequestError, match="chat template marks no thoughts"):
            ask(client, max_tokens=2000, thinking=kind)
        with pytest.raises(anthropic.BadRequestError, match="chat template marks no thoughts"):
            client.messages.count_tokens(model="caller", messages=[QUESTION], thinking=kind)  # type: ignore[arg-type]
    for budget, words in ((1024, "must be less than max_tokens, 1024"), (3, "greater than or equal to 1024")):
        with pytest.raises(anthropic.BadRequestError, match=words):
            ask(thinker, max_tokens=1024, thinking={"type": "enabled", "budget_tokens": budget})
