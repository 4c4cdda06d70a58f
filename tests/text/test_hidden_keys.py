"""What a row gives and its rendering does not show is refused, or named."""

from typing import Any

import pytest

from camelid.base.errors import CamelidError
from camelid.text.chat_template import CHATML, ChatTemplate
from camelid.text.conversation import Conversation
from camelid.text.hidden_keys import hidden_keys

PLAIN = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m.content or '') + '<|im_end|>\n' }}{% "
    "endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As SmolLM2's: no place for tools or reasoning."""
FULL = (
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<{{ m.role }}>"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor "
    "%}<end>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
CALL = {
    "type": "function",
    "id": "call_1234",
    "function": {"name": "times", "arguments": {"a": 12, "b": True}},
}
TOOL = {"type": "function", "function": {"name": "times", "parameters": {"type": "object"}, "strict": True}}
CALLS = [
    {"role": "user", "content": "12 times 3?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "36", "tool_call_id": "call_1234"},
    {"role": "assistant", "content": "It is 36."},
]


def hidden(template: str, messages: list[dict[str, Any]], tools: Any = None, **extra: Any) -> tuple[str, ...]:
    read = Conversation.from_messages(messages)
    return hidden_keys(ChatTemplate(template), Conversation(read.messages, tools, extra))


def talk(*answers: str, **keys: Any) -> list[dict[str, Any]]:
    turns = [
        ({"role": "user", "content": f"Question {n}?"}, {"role": "assistant", "content": text})
        for n, text in enumerate(answers)
    ]
    flat = [turn for pair in turns for turn in pair]
    return [*flat[:-1], flat[-1] | keys]


def test_what_is_shown_passes():
    assert hidden(FULL, talk("a", "ünï 12", "!?", "😀", "x\n", reasoning="So.")) == ()
    assert hidden(CHATML, talk("a")) == ()


def test_what_is_hidden_and_not_trained_is_named():
    assert set(hidden(FULL, CALLS, (TOOL,), origin="web", id=7, flags=[True])) == {
        "messages[].tool_calls[].id",
        "messages[].tool_call_id",
        "origin",
        "id",
        "flags[]",
    }
    assert hidden(PLAIN, talk("a", weight=1, name="Ann", score=0.5)) == (
        "messages[].name",
        "messages[].score",
    )


@pytest.mark.parametrize(
    ("messages", "tools", "extra", "message"),
    [
        (talk("a"), (TOOL,), {}, r"tools\[0\]\.function\.name: it has no place for tools"),
        (talk("a"), ({"name": "times"},), {}, r"tools\[0\]\.name: it has no place for tools"),
        (CALLS, None, {}, r"messages\[1\]\.tool_calls\[0\]\.function\.name: it has no place for tool calls"),
        (talk("a", reasoning_content="So."), None, {}, r"messages\[1\]\.reasoning_content: the reasoning"),
        (talk("a", thinking="So."), None, {}, r"messages\[1\]\.thinking: the reasoning"),
        (
            talk("a"),
            None,
            {"documents": [{"text": "Doc."}]},
            r"documents\[0\]\.text: it has no place for documents",
        ),
    ],
)
def test_what_would_not_be_trained_is_refused(messages: Any, tools: Any, extra: Any, message: str):
    with pytest.raises(CamelidError, match=message):
        hidden(PLAIN, messages, tools, **extra)


@pytest.mark.parametrize(
    ("source", "messages", "message"),
    [
        # Mistral's show the system message only where the user speaks last.
        (
            "{% for m in messages %}{% if m.role != 'system' or messages[-1].role == 'user' %}{{ m.content "
            "}}{% endif %}{% endfor %}",
            [{"role": "system", "content": "Be kind."}, *talk("a")],
            r"messages\[0\]\.content: that part",
        ),
        # Content beside a call is left out.
        (
            "{% for m in messages %}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% else %}{{ m.content "
            "}}{% endif %}{% endfor %}",
            [CALLS[0], CALLS[1] | {"content": "Let me see."}, *CALLS[2:]],
            r"messages\[1\]\.content: that part",
        ),
        # DeepSeek R1's cut the thoughts out of every answer.
        (
            "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}",
            talk("<think>\nOne and one.\n</think>\n\nTwo."),
            r"messages\[1\]\.content: the reasoning would not",
        ),
        # Only the name of a call is written.
        (
            FULL.replace("{{ c.function.arguments | tojson }}", ""),
            CALLS,
            r"messages\[1\]\.tool_calls\[0\]\.function\.arguments\.a",
        ),
    ],
)
def test_templates_that_drop_a_part(source: str, messages: Any, message: str):
    with pytest.raises(CamelidError, match=message):
        hidden(source, messages)


def test_earlier_reasoning_may_be_dropped_and_is_named():
    drops = (
        "{% for m in messages %}{{ m.content if loop.last else m.content.split('</think>')[-1] }}{% endfor %}"
    )
    assert hidden(drops, talk("<think>One.</think>Two.", "<think>Three.</think>Four.")) == (
        "messages[].content",
    )


def test_reasoning_before_a_call_is_not_lost_where_the_answer_has_none():
    thoughtful = [CALLS[0], CALLS[1] | {"reasoning_content": "Multiply."}, *CALLS[2:]]
    drops = FULL.replace("m.reasoning_content", "m.thoughts")
    with pytest.raises(CamelidError, match=r"messages\[1\]\.reasoning_content: the reasoning"):
        hidden(drops, thoughtful)
    assert "messages[].reasoning_content" not in hidden(FULL, thoughtful)


def test_a_key_that_only_decides_is_shown():
    decides = FULL.replace("{{ m.content or '' }}", "{{ m.content or '' }}{% if m.final %}!{% endif %}")
    assert hidden(decides, talk("a", final=True)) == ()
    thinks = FULL.replace(
        "<assistant>", "<assistant>{% if enable_thinking is false %}<think></think>{% endif %}"
    )
    assert hidden(thinks, talk("a"), chat_template_kwargs={"enable_thinking": True}) == ()


def test_templates_that_check_ids_and_content_bear_the_planted_words():
    strict = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id | length != 9 %}"
        "{{ raise_exception('9 letters') }}{% endif %}{{ c.function | tojson }}{{ c.id }}{% endfor %}"
        "{% if m.role == 'tool' %}{% if messages[loop.index0 - 1].tool_calls[0].id != m.tool_call_id %}"
        "{{ raise_exception('no call of this id') }}{% endif %}{% endif %}"
        "{% if m.content not in ['', '36', '12 times 3?', "
        "'It is 36.'] %}{{ raise_exception('?') }}{% endif %}"
        "{{ m.content | upper }}{% endfor %}"
    )
    assert hidden(strict, CALLS) == ()
