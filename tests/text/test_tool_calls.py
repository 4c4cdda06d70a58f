"""Tool calls in the forms that published templates write them."""

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from camelid.base.errors import CamelidError
from camelid.text.chat_template import CHATML, ChatTemplate
from camelid.text.tool_calls import Call, CallForm

TAGGED = """\
{%- if tools %}{{ '<tools>' }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% endif %}
{%- for message in messages %}{{ '[' + message.role + ']' }}
{%- if message.tool_calls %}{% for call in message.tool_calls %}
{{- '<call>' }}{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
{{- '</call>' }}{% endfor %}{% else %}{{ message.content }}{% endif %}{{ '[end]' }}{% endfor %}
{%- if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"""
CALL = '{"name": "add", "arguments": {"a": 1}}'


def test_the_form_comes_from_the_template() -> None:
    form = CallForm.of(ChatTemplate(TAGGED))
    assert form == CallForm("<call>", "arguments", "<call>")
    bare = TAGGED.replace("<call>", "").replace("</call>", "").replace('"arguments":', '"parameters":')
    assert CallForm.of(ChatTemplate(bare)) == CallForm("", "parameters")
    with pytest.raises(CamelidError, match="no place for tools"):
        CallForm.of(ChatTemplate(CHATML))
    with pytest.raises(CamelidError, match="does not show tools"):
        CallForm.of(ChatTemplate(TAGGED.replace("if tools", "if false")))
    other = TAGGED.replace('{"name": "{{ call.function.name }}"', "({{ call.function.name }}")
    with pytest.raises(CamelidError, match="in a form that is not read here"):
        CallForm.of(ChatTemplate(other))


@pytest.mark.parametrize(
    ("name", "lead"),
    [
        ("qwen2.5-instruct", "<tool_call>\n"),
        ("qwen3", "<tool_call>\n"),
        ("mistral-7b-instruct-v0.3", "[TOOL_CALLS] "),
        ("phi-4-mini-instruct", "<|tool_call|>"),
    ],
)
def test_published_templates(shared: Path, name: str, lead: str) -> None:
    source = (shared / "templates" / f"{name}.jinja").read_text()
    variables = {"bos_token": "<s>", "eos_token": "</s>"}
    form, listed = CallForm.of(ChatTemplate(source, variables)), lead == "[TOOL_CALLS] "
    assert form == CallForm(lead.strip(), "arguments", lead, listed)


@pytest.mark.parametrize(
    ("answer", "content", "calls"),
    [
        ("Hello.", "Hello.", ()),
        (f"<call>{CALL}</call>", "", (Call("add", '{"a": 1}'),)),
        (f"See:\n<call>\n{CALL}\n</call>\n<call>{CALL}</call>", "See:", (Call("add", '{"a": 1}'),) * 2),
        ('<call>[{"name": "f"}, {"name": "g", "arguments": "{}"}]', "", (Call("f", "{}"), Call("g", "{}"))),
        ("<call>not JSON</call>", "<call>not JSON</call>", ()),
        ('<call>{"name": 3}', '<call>{"name": 3}', ()),
        ('<call>{"name": "f", "arguments": 3}', '<call>{"name": "f", "arguments": 3}', ()),
        ('A <call>{"name": "add", "argum', 'A <call>{"name": "add", "argum', ()),
    ],
)  # fmt: skip
def test_an_answer_is_split(answer: str, content: str, calls: tuple[Call, ...]) -> None:
    form = CallForm("<call>", "arguments")
    assert form.split(answer) == (content, calls)
    for end in range(len(answer) + 1):  # what a stream shows is never taken back
        certain = answer[: end - form.pending(answer[:end])].rstrip()
        assert content.startswith(certain)


def test_an_answer_of_json_alone() -> None:
    form = CallForm("", "parameters")
    assert form.split('{"name": "f", "parameters": {"x": [1]}}') == ("", (Call("f", '{"x": [1]}'),))
    assert form.split("See [1].") == ("See [1].", ())
    assert form.split('{"x": 1}') == ('{"x": 1}', ())
    assert (form.pending('  {"nam'), form.pending("See {"), form.pending("  ")) == (7, 0, 2)


def test_a_call_can_be_forced() -> None:
    """By a schema whose references still hold inside it, told by jsonschema."""
    city = {"$ref": "#/$defs/city"}
    arguments = {"type": "object", "properties": {"c": city}, "$defs": {"city": {"enum": ["Rome", "Oslo"]}}}
    functions = {"weather": arguments, "time": {"type": "object", "maxProperties": 0}}
    for form in (CallForm("", "arguments"), CallForm("[C]", "arguments", listed=True)):
        for names in (("weather",), ("weather", "time")):
            schema = form.schema({name: functions[name] for name in names})
            for name, given, fits in (
                ("weather", {"c": "Rome"}, True),
                ("weather", {"c": "Bonn"}, False),
                ("time", {}, len(names) > 1),
                ("other", {}, False),
            ):
                call = {"name": name, "arguments": given}
                assert Draft202012Validator(schema).is_valid([call] if form.listed else call) == fits
