"""The stateless core of `/v1/responses` over a real socket, asked with the official client."""

import json
from typing import Any

import pytest
from openai import BadRequestError, OpenAI
from running_server import CITY, post

from camelid.engine.engine import Engine
from camelid.text.conversation import Conversation

QUESTION = {"role": "user", "content": "the cat sat"}
TOOL = {"type": "function", "name": "weather", "parameters": CITY, "strict": True}


@pytest.fixture(scope="module")
def client(calling_url: str) -> OpenAI:
    return OpenAI(base_url=f"{calling_url}/v1", api_key="none", max_retries=0)


def ask(client: OpenAI, **changes: Any) -> Any:
    settings = {"model": "caller", "input": "the cat sat", "max_output_tokens": 12, "temperature": 0}
    return client.responses.create(**(settings | changes))


def own(calling: Engine, rows: list[dict[str, Any]], tokens: int = 12) -> str:
    [[completion]] = calling.generate([Conversation.from_messages(rows)], max_new_tokens=tokens)
    return completion.text


def test_a_response_is_the_engines(client: OpenAI, calling: Engine) -> None:
    answer = ask(client, instructions="one two three")
    system = {"role": "system", "content": "one two three"}
    assert answer.output_text == own(calling, [system, QUESTION])
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (answer.store, answer.previous_response_id) == (False, None)
    assert answer.usage.output_tokens == 12
    assert answer.usage.total_tokens == answer.usage.input_tokens + 12


def test_turns_are_items(client: OpenAI, calling: Engine) -> None:
    first = ask(client, input=[{"role": "user", "content": [{"type": "input_text", "text": "the cat sat"}]}])
    said = first.output_text
    assert said == own(calling, [QUESTION])
    more = {"role": "user", "content": "dogs ran"}
    second = ask(client, input=[QUESTION, *[item.to_dict() for item in first.output], more])
    assert second.output_text == own(calling, [QUESTION, {"role": "assistant", "content": said}, more])


def test_a_stream_adds_up_to_the_response(client: OpenAI) -> None:
    whole = ask(client, max_output_tokens=30)
    with client.responses.stream(
        model="caller", input="the cat sat", max_output_tokens=30, temperature=0
    ) as stream:
        events = [*stream]
    assert [event.sequence_number for event in events] == [*range(len(events))]
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "incomplete"]
    assert set(kinds[4:-4]) == {"output_text.delta"}
    assert events[-1].response.output_text == whole.output_text
    assert "".join(event.delta for event in events[4:-4]) == whole.output_text


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
def test_a_function_is_called(client: OpenAI, choice: Any) -> None:
    settings = {"tools": [TOOL], "tool_choice": choice, "max_output_tokens": 200}
    answer = ask(client, **settings)
    [call] = answer.output
    assert (answer.status, call.type, call.name) == ("completed", "function_call", "weather")
    assert json.loads(call.arguments)["city"] in ("Rome", "Oslo")
    with client.responses.stream(model="caller", input="the cat sat", temperature=0, **settings) as stream:
        streamed = stream.get_final_response().output[0]
    assert (streamed.name, streamed.arguments) == ("weather", call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "dogs"}
    assert ask(client, input=[QUESTION, call.to_dict(), result]).usage.output_tokens == 12


def test_a_schema_is_kept_to(client: OpenAI) -> None:
    form = {"format": {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}}
    answer = ask(client, text=form, max_output_tokens=100, temperature=1)
    assert json.loads(answer.output_text)["city"] in ("Rome", "Oslo")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"store": True}, "store must be false: this server keeps no responses"),
        ({"previous_response_id": "resp_1"}, "previous_response_id is not supported"),
        ({"conversation": "c"}, "conversation is not supported"),
        ({"background": True}, "background is not supported"),
        ({"reasoning": {"effort": "low"}}, "reasoning is not supported here; the fields are"),
        ({"truncation": "auto"}, "truncation is 'auto'"),
        ({"include": ["x"]}, "include is"),
        ({"input": []}, "input is []"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input is"),
        ({"tools": [TOOL]}, "the function weather is strict"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "response_format"),
        ({"max_output_tokens": 0}, "max_output_tokens is 0"),
    ],
)
def test_what_cannot_be_done_is_refused(calling_url: str, change: dict[str, Any], words: str) -> None:
    body = {"model": "caller", "input": "the cat sat", "max_output_tokens": 4} | change
    response = post(f"{calling_url}/v1/responses", json=body)
    assert response.status_code == 400, response.text
    assert words in response.json()["error"]["message"]


def test_the_official_client_names_the_error(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        ask(client, input="cat " * 2000)
    assert caught.value.code == "context_length_exceeded"
