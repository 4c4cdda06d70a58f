"""Chat completions over a real socket, asked with the official client."""

import json
import time

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from running_server import PATIENCE, Server, get, post

from camelid.engine.engine import Engine
from camelid.serve.app import make_app
from camelid.serve.models import Models, Served
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import Tokenizer

QUESTION = {"role": "user", "content": "the cat sat"}


@pytest.fixture(scope="module")
def client(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def asked(engine: Engine, **sampling: object) -> str:
    [[completion]] = engine.generate([Conversation.from_messages([QUESTION])], **sampling)
    return completion.text


def test_an_answer_is_the_engines(client: OpenAI, engine: Engine) -> None:
    answer = client.chat.completions.create(model="tiny", messages=[QUESTION], max_tokens=12, temperature=0)
    assert answer.choices[0].message.content == asked(engine, max_new_tokens=12)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    prompt = len(engine.encode(Conversation.from_messages([QUESTION])))
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (prompt, 12)
    assert answer.usage.total_tokens == prompt + 12


def test_timings_divide_the_time_at_the_first_token(url: str) -> None:
    body = {"messages": [QUESTION], "max_tokens": 40, "temperature": 0}
    began = time.perf_counter()
    timings = post(f"{url}/v1/chat/completions", json=body).json()["timings"]
    whole = 1000 * (time.perf_counter() - began)
    assert timings["first_token_ms"] > 0
    assert timings["predicted_ms"] > 0.5  # 39 of 40 tokens come after the first
    assert timings["first_token_ms"] + timings["predicted_ms"] < whole
    assert timings["predicted_per_second"] == pytest.approx(39_000 / timings["predicted_ms"], rel=0.01)


def test_a_stream_adds_up_to_the_whole(client: OpenAI, engine: Engine) -> None:
    stream = client.chat.completions.create(
        model="tiny",
        messages=[QUESTION],
        max_tokens=30,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [*stream]
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == asked(engine, max_new_tokens=30)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert [each for each in reasons if each] == ["length"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 30


def test_samples_have_their_seed(client: OpenAI, engine: Engine) -> None:
    settings = {"max_tokens": 8, "temperature": 1.0, "seed": 5, "n": 3}
    answer = client.chat.completions.create(model="tiny", messages=[QUESTION], **settings)  # type: ignore[call-overload]
    [own] = engine.generate(
        [Conversation.from_messages([QUESTION])], max_new_tokens=8, temperature=1.0, seed=5, samples=3
    )
    assert [choice.message.content for choice in answer.choices] == [each.text for each in own]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    again = client.chat.completions.create(model="tiny", messages=[QUESTION], max_tokens=8, temperature=1.0)
    other = client.chat.completions.create(model="tiny", messages=[QUESTION], max_tokens=8, temperature=1.0)
    assert again.choices[0].message.content != other.choices[0].message.content  # without a seed: random


def test_logprobs_are_those_of_the_model(client: OpenAI, engine: Engine) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=[QUESTION], max_tokens=6, temperature=0, logprobs=True, top_logprobs=3
    )
    [[own]] = engine.generate([Conversation.from_messages([QUESTION])], max_new_tokens=6)
    assert answer.choices[0].logprobs is not None
    entries = answer.choices[0].logprobs.content
    assert entries is not None
    assert [entry.logprob for entry in entries] == pytest.approx(list(own.logprobs), abs=1e-4)
    for entry in entries:
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token  # greedy
        values = [each.logprob for each in entry.top_logprobs]
        assert values == sorted(values, reverse=True)
    spelt = b"".join(bytes(entry.bytes or []) for entry in entries)
    assert spelt.decode(errors="replace").startswith(own.text)


def test_a_schema_is_kept_to(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["age"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    answer = client.chat.completions.create(
        model="tiny", messages=[QUESTION], max_tokens=60, temperature=1, seed=1, response_format=form
    )  # type: ignore[call-overload]
    assert 1 <= json.loads(answer.choices[0].message.content)["age"] <= 9


def test_content_in_parts_is_text(client: OpenAI, engine: Engine) -> None:
    parts = [{"type": "text", "text": "the cat"}, {"type": "text", "text": " sat"}]
    answer = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": parts}],  # type: ignore[typeddict-item]
        max_tokens=5,
        temperature=0,
    )
    assert answer.choices[0].message.content == asked(engine, max_new_tokens=5)


def test_models_are_listed(client: OpenAI, url: str) -> None:
    [model] = client.models.list().data
    assert (model.id, model.owned_by) == ("tiny", "camelid")
    assert client.models.retrieve("tiny").id == "tiny"
    assert get(f"{url}/health").json() == {"status": "ok"}
    with pytest.raises(NotFoundError, match="no model 'other'; the models are tiny"):
        client.chat.completions.create(model="other", messages=[QUESTION])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_tokens": 0}, "max_tokens is 0: input should be greater than or equal to 1"),
        ({"max_tokens": "9"}, "max_tokens is '9': input should be a valid integer"),
        ({"temperature": -1}, "temperature is -1"),
        ({"top_p": 0}, "top_p is 0"),
        ({"n": 129}, "n is 129"),
        ({"messages": []}, "messages is []"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role is 'boss'"),
        ({"messages": [{"role": "user"}]}, "messages[0].content is null"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            "messages[0].content has a part that is not text",
        ),
        ({"messages": [QUESTION, {"role": "assistant", "content": "x"}]}, "nothing to answer"),
        ({"functions": []}, "functions is not supported here; the fields are"),
        ({"logit_bias": {"x": 1}}, "logit_bias must have token ids as keys"),
        ({"logit_bias": {"9999": 1}}, "logit_bias names token 9999"),
        ({"response_format": {"type": "grammar"}}, "response_format is {'type': 'grammar'}"),
        ({"top_logprobs": 2}, "top_logprobs needs logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options needs stream"),
        ({"messages": [{"role": "user", "content": "cat " * 500}]}, "tokens too many"),
        ({"stop": [""]}, "stop is"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"top_p": 1e308}, "top_p is 1e+308"),
        ({"presence_penalty": -1e300}, "presence_penalty is -1e+300"),
        ({"top_k": 0}, "top_k is 0"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"max_tokens": -(10**30)}, "max_tokens is -1000"),
        ({"tool_choice": "required"}, "tool_choice needs tools"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "chat template does not know it"),
        ({"chat_template_kwargs": {"messages": []}}, "is the template's own"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}}, "itself"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}}, "not"),
    ],
)
def test_what_cannot_be_done_is_refused(url: str, change: dict[str, object], words: str) -> None:
    body = {"model": "tiny", "messages": [QUESTION]} | change
    for stream in ({}, {"stream": True}):
        if "stream_options" in change and stream:
            continue
        response = post(f"{url}/v1/chat/completions", json=body | stream)
        assert response.status_code == 400
        error = response.json()["error"]
        assert words in error["message"]
        assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "the body is not JSON at column"),
        (b"[]", "must be a JSON object"),
        (b"\xff", "not JSON"),
        (b'{"messages": NaN}', "NaN is not a number in JSON"),
        (b'{"messages": [], "temperature": -Infinity}', "-Infinity is not a number in JSON"),
        (b'{"messages": [], "n": 1, "n": 2}', "the key 'n' comes twice in an object"),
        (b'{"messages": [{"role": "user", "role": "x"}]}', "the key 'role' comes twice in an object"),
        (b'{"model": "\\ud800"}', "half of a surrogate pair"),
        (b'{"messages": [{"role": "user", "content": "a\xff"}]}', "not JSON"),
        (b"", "the body is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_bodies_that_are_no_request(url: str, body: bytes, words: str) -> None:
    response = post(f"{url}/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


def test_paths_and_methods_that_do_not_exist(url: str) -> None:
    assert get(f"{url}/v1/embeddings").json()["error"]["message"].endswith("there is no such path")
    assert get(f"{url}/v1/chat/completions").status_code == 405
    assert post(f"{url}/v1/chat/completions", content=b"x" * (9 << 20)).status_code == 413


def test_a_stream_that_is_left_frees_its_memory(url: str, engine: Engine) -> None:
    body = {"messages": [QUESTION], "max_tokens": 100, "stream": True, "temperature": 0}
    before = engine.decoder.pool.available
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=PATIENCE) as response:
        next(response.iter_lines())
    for _ in range(200):
        if not engine.scheduler.running and not engine.scheduler.waiting:
            break
        engine.worker.call(lambda: None)
    assert not engine.scheduler.running
    assert engine.decoder.pool.available >= before - 0


def test_the_official_client_names_the_error(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "cat " * 500}])
    assert caught.value.code == "context_length_exceeded"


def test_usage_counts_what_was_cached(url: str) -> None:
    question = {"role": "user", "content": "dogs ran over to it; dogs ran over to it; one two three"}
    body = {"messages": [question], "max_tokens": 2}
    for least in (0, 16):
        usage = post(f"{url}/v1/chat/completions", json=body).json()["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        assert least <= cached < usage["prompt_tokens"]


BARE = """\
{%- for tool in tools or [] %}{{ tool | tojson }}{% endfor %}
{%- for message in messages %}{{ '<|im_start|>' }}
{%- for call in message.tool_calls or [] %}
{{- '{"name": "' + call.function.name + '", "parameters": ' + call.function.arguments | tojson + '}' }}
{%- endfor %}{{ message.content or '' }}{{ '<|im_end|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}"""
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


def test_tools_are_called(engine: Engine, url: str) -> None:
    refused = post(f"{url}/v1/chat/completions", json={"messages": [QUESTION], "tools": TOOLS})
    assert "tools are not supported: the chat template rejects" in refused.text
    call = {"name": {"const": "add"}, "parameters": {"type": "object", "maxProperties": 0}}
    schema = {"type": "object", "properties": call, "required": [*call], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}
    tokenizer = Tokenizer(engine.tokenizer.backend, engine.tokenizer.config, chat_template=BARE)
    with Engine(engine.model, tokenizer) as other, Server(make_app(Models([Served("t", other)]))) as server:
        client = OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        settings = {"model": "t", "messages": [QUESTION], "tools": TOOLS, "response_format": form}
        settings["logit_bias"] = {str(tokenizer.encode(space)[0]): -100 for space in (" ", "\n", "\t")}
        [choice] = client.chat.completions.create(**settings, max_tokens=90).choices
        assert choice.finish_reason == "tool_calls"
        [made] = choice.message.tool_calls
        assert (made.function.name, json.loads(made.function.arguments)) == ("add", {})
        deltas = [
            chunk.choices[0].delta
            for chunk in client.chat.completions.create(**settings, max_tokens=90, stream=True)
        ]
        [streamed] = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
        assert streamed.function.name == "add"
        assert not any(delta.content for delta in deltas)
        result = {"role": "tool", "tool_call_id": made.id, "content": "3"}
        history = [QUESTION, choice.message.model_dump(exclude_none=True), result]
        answer = client.chat.completions.create(model="t", messages=history, max_tokens=5, temperature=0)
        assert answer.usage.completion_tokens == 5
