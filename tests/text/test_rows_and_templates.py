"""What a chat row gives, in the forms that data sets write, as published templates render it."""

import json
from typing import Any

import pytest

from camelid.base.errors import CamelidError
from camelid.text.chat_template import ChatTemplate
from camelid.text.conversation import Conversation

NAMED = {"bos_token": "<s>", "eos_token": "</s>"}
ASK = {"role": "user", "content": "Weather in Paris?"}
ANSWER = {"role": "assistant", "content": "It is mild."}
QWEN_2_5 = (
    "{%- for m in messages %}{%- if m.role == 'tool' %}{{- '<|im_start|>user\n' + m.content + '<|im_end|>\n' "
    "}}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\n' }}{%- if m.content %}{{- m.content }}{%- endif %}"
    "{%- for c in m.tool_calls or [] %}{%- set c = c.function if c.function is defined else c %}"
    '{{- \'<tool_call>{"name": "\' + c.name + \'", "arguments": '
    "' }}{{- c.arguments | tojson }}{{- '}</tool_call>' }}"
    "{%- endfor %}{{- '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
CONCATENATES = QWEN_2_5.replace("c.arguments | tojson", "'' + c.arguments")
WRITES_BOTH = QWEN_2_5.replace(
    "c.arguments | tojson", "c.arguments if c.arguments is string else c.arguments | tojson"
)
WRITES_PYTHON = QWEN_2_5.replace("c.arguments | tojson", "c.arguments")
LISTS_ITEMS = QWEN_2_5.replace(
    "{{- c.arguments | tojson }}", "{% for k, v in c.arguments.items() %}{{ k }}={{ v }};{% endfor %}"
)


def call(arguments: Any, **others: Any) -> dict[str, Any]:
    return {"function": {"name": "get_weather", "arguments": arguments}, **others}


def row(calls: Any, content: Any = None, **others: Any) -> list[dict[str, Any]]:
    result = {"role": "tool", "content": "mild"}
    return [ASK, {"role": "assistant", "content": content, "tool_calls": calls, **others}, result, ANSWER]


def rendered(source: str, messages: list[dict[str, Any]]) -> str:
    segments = ChatTemplate(source, NAMED).render(Conversation.from_messages(messages))
    return "".join(segment.text for segment in segments)


def trained(source: str, messages: list[dict[str, Any]]) -> list[str]:
    segments = ChatTemplate(source, NAMED).render(Conversation.from_messages(messages))
    return [segment.text for segment in segments if segment.trained and segment.weight]


OBJECT, TEXT = {"city": "Zürich"}, '{"city": "Zürich"}'


@pytest.mark.parametrize("given", [OBJECT, TEXT])
@pytest.mark.parametrize("template", [QWEN_2_5, CONCATENATES, WRITES_BOTH, WRITES_PYTHON])
def test_arguments_are_trained_as_json_in_both_forms(template: str, given: Any):
    text = rendered(template, row([call(given)]))
    assert '{"name": "get_weather", "arguments": {"city": "Zürich"}}' in text


@pytest.mark.parametrize("given", [OBJECT, TEXT])
def test_arguments_that_a_template_lists_are_an_object(given: Any):
    assert "city=Zürich;" in rendered(LISTS_ITEMS, row([call(given)]))


def test_arguments_that_are_flat_beside_their_name():
    messages = row([{"name": "get_weather", "arguments": TEXT}])
    assert '"arguments": {"city": "Zürich"}}' in rendered(QWEN_2_5, messages)


def test_text_that_is_written_as_it_is_keeps_its_spacing():
    assert '"arguments": {"city":"Paris"}}' in rendered(WRITES_BOTH, row([call('{"city":"Paris"}')]))


@pytest.mark.parametrize(
    ("given", "message"), [("Paris", "not JSON"), ("[1]", "text of a JSON object"), ("", "not JSON")]
)
def test_arguments_that_are_not_an_object_are_named(given: str, message: str):
    with pytest.raises(
        CamelidError, match=rf"messages\[1\]\.tool_calls\[0\]\.function\.arguments is .*{message}"
    ):
        rendered(QWEN_2_5, row([call(given)]))


IS_NONE = (
    "{%- for m in messages %}{%- if m['role'] == 'user' %}{{- '<U>' + m['content'] }}{%- endif %}"
    "{%- if m['role'] == 'assistant' and m['content'] is none %}{{- '<A>' }}{%- for c in m['tool_calls'] %}"
    "{{- '<call>' + c['function']['name'] + c['function']['arguments'] }}{%- endfor %}{{- '<end>' }}{%- "
    "endif %}"
    "{%- if m['role'] == 'assistant' and m['content'] is not none %}{{- '<A>' + m['content'] + '<end>' }}{%- "
    "endif %}"
    "{%- if m['role'] == 'tool' %}{{- '<out>' + m['content'] }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<A>' }}{%- endif %}"
)
TOOL_CALLS_THEN_CONTENT = IS_NONE.replace(
    "m['role'] == 'assistant' and m['content'] is none", "m['role'] == 'assistant' and m['tool_calls']"
)


@pytest.mark.parametrize("template", [IS_NONE, TOOL_CALLS_THEN_CONTENT])
@pytest.mark.parametrize("given", [OBJECT, TEXT])
def test_null_beside_a_call_stays_null(template: str, given: Any):
    """DeepSeek's templates ask for it; an empty text would add an empty answer."""
    assert trained(template, row([call(given)])) == [f"<call>get_weather{TEXT}<end>", "It is mild.<end>"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{{ m.content }}", ""),  # null would be written as None
        ("{{ '' + m.content }}", ""),  # neither null nor a missing key can be joined to a text
        ("{% if '<' in m.content %}!{% endif %}{{ m.content }}", ""),  # null cannot be searched
        ("{{ 'none' if m.content is none else m.content }}", "none"),
        ("{{ m.content or 'nothing' }}", "nothing"),
        # Qwen3-VL's (mlx-vlm#1837, transformers#45419): what is not a text is a list of parts.
        (
            "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% "
            "endfor %}"
            "{% endif %}",
            "",
        ),
        # GLM 4.5's (transformers#45422) writes None.
        ("{% if m.content is defined %}{{ m.content | string }}{% endif %}", ""),
    ],
)
def test_null_as_templates_bear_it(content: str, expected: str):
    source = (
        "{% for m in messages %}<{{ m.role }}>" + content + "{% for c in m.tool_calls or [] %}"
        "{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}<end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    assert trained(source, row([call({})]))[0] == f"{expected}get_weather{{}}<end>"


def test_null_keys_beside_the_content_do_not_stop_a_template():
    """Tables write null where a row has no such key."""
    source = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name }}"
        "{% endfor %}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    plain = [
        ASK | {"tool_calls": None, "name": None},
        ANSWER | {"tool_calls": None, "reasoning_content": None},
    ]
    assert trained(source, plain) == ["It is mild.<end>"]


IDS = (
    "{%- for m in messages %}{%- if m.role == 'user' %}{{- '[INST] ' + m.content + '[/INST]' }}"
    "{%- elif m.tool_calls is defined and m.tool_calls is not none %}{{- '[CALL] ' }}{%- for c in "
    "m.tool_calls %}"
    "{%- if c.id is not defined or c.id | length != 9 %}{{- raise_exception('ids have 9 letters') }}{%- "
    "endif %}"
    "{{- c.function.name + ' ' + c.id }}{%- endfor %}{{- eos_token }}"
    "{%- elif m.role == 'assistant' %}{{- ' ' + m.content + eos_token }}{%- elif m.role == 'tool' %}"
    "{%- if m.tool_call_id is not defined or m.tool_call_id | length != 9 %}{{- raise_exception('ids have 9 "
    "letters') }}"
    "{%- endif %}{{- '[RESULT] ' + m.content + ' ' + m.tool_call_id + '[/RESULT]' }}{%- endif %}{%- endfor %}"
)


def test_ids_of_calls_are_rendered():
    messages = row([call(OBJECT, id="abc123def", type="function")])
    messages[2] = messages[2] | {"tool_call_id": "abc123def"}
    assert rendered(IDS, messages) == (
        "[INST] Weather in Paris?[/INST][CALL] get_weather abc123def</s>"
        "[RESULT] mild abc123def[/RESULT] It is mild.</s>"
    )


THINKS = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}{%- if m.role == 'assistant' and KEY %}"
    "{{- '<think>\n' + KEY + '\n</think>\n\n' }}{%- endif %}{{- m.content + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


@pytest.mark.parametrize("given", ["reasoning_content", "thinking", "reasoning"])
@pytest.mark.parametrize("read", ["reasoning_content", "thinking"])
def test_reasoning_is_trained_under_each_of_its_names(given: str, read: str):
    messages = [ASK, ANSWER | {given: "Count on the fingers."}]
    source = THINKS.replace("KEY", f"m.{read}")
    assert trained(source, messages) == ["<think>\nCount on the fingers.\n</think>\n\nIt is mild.<|im_end|>"]


def test_an_answer_may_consist_of_reasoning_and_a_call():
    messages = [ASK, {"role": "assistant", "content": None, "reasoning": "Look.", "tool_calls": [call({})]}]
    source = THINKS.replace("KEY", "m.reasoning_content").replace(
        "m.content +", "(m.content or '') + (m.tool_calls | tojson if m.tool_calls else '') +"
    )
    assert trained(source, messages)[0].startswith('<think>\nLook.\n</think>\n\n[{"function"')


def test_variables_of_a_row_reach_the_template_and_cannot_replace_its_own():
    source = (
        "{{ bos_token }}{{ date_string }}{% if enable_thinking is defined %}{{ enable_thinking }}{% endif %}"
        "{% for d in documents or [] %}{{ d.text }}{% endfor %}"
        "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% "
        "endfor %}"
    )
    extra = {
        "date_string": "26 Jul 2024",
        "documents": [{"text": "Doc."}],
        "chat_template_kwargs": {"enable_thinking": False},
        "eos_token": "no",
        "raise_exception": 1,
    }
    talk = Conversation.of(("Hi", "Yes"))
    whole = ChatTemplate(source, NAMED).render(Conversation(talk.messages, None, extra))
    assert "".join(one.text for one in whole) == "<s>26 Jul 2024FalseDoc.HiYes</s>"
    with pytest.raises(CamelidError, match=r"chat_template_kwargs\.messages is the template's own"):
        ChatTemplate(source, NAMED).render(
            Conversation(talk.messages, None, {"chat_template_kwargs": {"messages": []}})
        )


def test_a_template_that_needs_tools_to_be_undefined_renders_without():
    source = (
        "{% if tools is defined %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}"
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% else %}{{ eos_token }}{% endif %}"
    )
    two = [ASK, ANSWER, ASK, ANSWER]
    assert trained(source, two) == ["It is mild.<end>", "It is mild.<end></s>"]


def test_a_round_trip_keeps_every_key_in_order():
    messages = [
        {"content": "Hi", "role": "user", "name": "Ann", "id": 3},
        {"role": "assistant", "tool_calls": [call(TEXT, id="1")], "weight": 0.5, "name": None},
    ]
    read = Conversation.from_messages(messages)
    assert json.dumps(read.as_dicts()) == json.dumps(messages)
    assert Conversation.from_messages(read.as_dicts()) == read
