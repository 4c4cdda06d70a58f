"""Rows are kept whole: loss weights, calls and tools as text, variables, and nested values of wrong types."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camelid.base.errors import CamelidError
from camelid.data.read.conversations import Conversations
from camelid.data.rows.examples import (
    Example,
    conversation_example,
    conversation_examples,
    draw_of,
    hold_out_examples,
)
from camelid.data.rows.shown_rows import shown_rows, with_escapes
from camelid.text.chat_template import CHATML
from camelid.text.conversation import Conversation, Message
from camelid.text.tokenizer import Tokenizer

ASK = {"role": "user", "content": "One and one?"}
WRONG = {"role": "assistant", "content": "Three."}
AGAIN = {"role": "user", "content": "Are you sure?"}
RIGHT = {"role": "assistant", "content": "Two."}
PREFIX = CHATML.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
"""Without generation blocks: the trained parts are found by rendering shorter conversations."""
QUOTES = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation "
    "%}"
    "{{ m.content }}{% endgeneration %}!{% generation %}{{ '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
)
"""Two generation blocks in every answer."""


def read(tmp_path: Path, *rows: Any, skip: bool = False) -> Conversations:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Conversations(path, skip)


def with_template(tokenizer: Tokenizer, template: str) -> Tokenizer:
    return Tokenizer(tokenizer.backend, tokenizer.config, chat_template=template, stop_ids=[0, 2])


def weighted(tokenizer: Tokenizer, example: Example) -> list[tuple[float, str]]:
    """The trained text by loss weight, in order."""
    pieces: list[tuple[float, str]] = []
    for weight in dict.fromkeys(example.weights[example.weights > 0].tolist()):
        ids = example.targets[example.weights == weight].tolist()
        pieces.append((round(weight, 3), tokenizer.decode(ids, skip_special_tokens=False)))
    return pieces


@pytest.mark.parametrize("template", [CHATML, PREFIX, QUOTES])
@pytest.mark.parametrize(
    ("wrong", "right", "expected"),
    [
        ({"weight": 0}, {"weight": 1}, [(1.0, "Two.<|im_end|>")]),
        ({"train": False}, {"train": True}, [(1.0, "Two.<|im_end|>")]),
        ({"loss": False}, {}, [(1.0, "Two.<|im_end|>")]),
        ({"weight": 0.0}, {"weight": None}, [(1.0, "Two.<|im_end|>")]),
        ({}, {"loss": 0}, [(1.0, "Three.<|im_end|>")]),
        ({"trainable": False}, {"trainable": True}, [(1.0, "Two.<|im_end|>")]),  # verl#5316, Fireworks
        ({"loss_mask": 0}, {"loss_mask": 1}, [(1.0, "Two.<|im_end|>")]),  # verl#5472
        ({"loss_scale": 0.5}, {}, [(0.5, "Three.<|im_end|>"), (1.0, "Two.<|im_end|>")]),  # ms-swift
        ({"weight": 0.25}, {"weight": 1}, [(0.25, "Three.<|im_end|>"), (1.0, "Two.<|im_end|>")]),
        ({"weight": 2}, {"weight": 2, "train": True}, [(2.0, "Three.<|im_end|>Two.<|im_end|>")]),
    ],
)
def test_loss_weights_of_turns(
    tmp_path: Path, tokenizer: Tokenizer, template: str, wrong: Any, right: Any, expected: Any
):
    ((talk, _),) = read(tmp_path, {"messages": [ASK, WRONG | wrong, AGAIN, RIGHT | right]})
    mine = with_template(tokenizer, template)
    plain = conversation_example(mine, Conversation.from_messages([ASK, WRONG, AGAIN, RIGHT]))
    example = conversation_example(mine, talk)
    assert weighted(mine, example) == expected
    assert np.array_equal(example.tokens, plain.tokens)  # the tokens do not depend on the weights


def test_loss_weights_of_sharegpt_turns_and_of_rows(tmp_path: Path, tokenizer: Tokenizer):
    turns = [
        {"from": "human", "value": "One and one?", "weight": 0},
        {"from": "gpt", "value": "Three.", "weight": 0},
        {"from": "human", "value": "Are you sure?"},
        {"from": "gpt", "value": "Two.", "weight": 1},
    ]
    ((talk, _),) = read(tmp_path, {"conversations": turns, "weight": 0.5})
    assert weighted(tokenizer, conversation_example(tokenizer, talk)) == [(0.5, "Two.<|im_end|>")]
    ((talk, _),) = read(tmp_path, {"instruction": "Say it", "output": "It.", "weight": 0.5})
    assert weighted(tokenizer, conversation_example(tokenizer, talk)) == [(0.5, "It.<|im_end|>")]


def test_a_row_of_weight_zero_trains_nothing_and_is_refused(tmp_path: Path, tokenizer: Tokenizer):
    source = read(
        tmp_path, {"messages": [ASK, RIGHT | {"weight": 0}]}, {"messages": [ASK, RIGHT], "train": False}
    )
    for talk, where in source:
        with pytest.raises(CamelidError, match=rf"^{where}: no token is trained.*loss weight 0"):
            conversation_example(tokenizer, talk, where)


def test_cutting_passes_over_turns_that_are_not_trained(tokenizer: Tokenizer):
    talk = Conversation.from_messages([ASK, WRONG | {"weight": 0}, AGAIN, RIGHT])
    context = len(conversation_example(tokenizer, talk)) - 1
    short = (Conversation.of(("a", "b")), "a:2")
    made = conversation_examples(tokenizer, [(talk, "a:1"), short], context, "cut")
    assert (len(made.examples), len(made.dropped)) == (1, 1)


TIMES = {"name": "times", "arguments": {"a": 12, "b": 3}}
CALLS = [
    {"role": "system", "content": "# Tools", "tools": '[{"name":"times"}]'},
    {"role": "user", "content": "12 times 3?"},
    {"role": "assistant", "content": "", "tool_calls": json.dumps([TIMES])},
    {"role": "tool", "content": "36"},
    {"role": "assistant", "content": "36."},
]


def test_calls_and_tools_as_text_are_read(tmp_path: Path):
    ((talk, _),) = read(tmp_path, {"conversations": CALLS})
    assert talk.tools == ({"name": "times"},)
    assert talk.messages[2].tool_calls == (TIMES,)
    ((talk, _),) = read(tmp_path, {"messages": [ASK, RIGHT], "tools": '[{"function": {"name": "f"}}]'})
    assert talk.tools == ({"function": {"name": "f"}},)


@pytest.mark.parametrize("value", [json.dumps(TIMES), json.dumps([TIMES, TIMES])])
def test_calls_spoken_as_in_llama_factory(tmp_path: Path, value: str):
    turns = [
        {"from": "human", "value": "12 times 3?"},
        {"from": "function_call", "value": value},
        {"from": "observation", "value": "36"},
        {"from": "gpt", "value": "36."},
    ]
    ((talk, _),) = read(tmp_path, {"conversations": turns, "tools": '[{"name": "times"}]'})
    assert talk.messages[1].tool_calls == (TIMES,) * value.count("times")
    assert [message.role for message in talk.messages] == ["user", "assistant", "tool", "assistant"]


def test_keys_that_are_not_interpreted_are_kept(tmp_path: Path):
    messages = [ASK, RIGHT | {"reasoning_content": "So.", "mood": {"glad": [1, None]}}]
    ((talk, _),) = read(
        tmp_path, {"messages": messages, "documents": [{"text": "Doc."}], "id": 3, "flag": None}
    )
    assert talk.as_dicts() == messages
    assert talk.extra == {"documents": [{"text": "Doc."}], "id": 3, "flag": None}
    ((talk, _),) = read(tmp_path, {"prompt": [ASK], "completion": [RIGHT], "source": "web"})
    assert talk.extra == {"source": "web"}


def turn(**keys: Any) -> dict[str, Any]:
    return {"messages": [ASK, RIGHT | keys]}


def function(**keys: Any) -> dict[str, Any]:
    return turn(tool_calls=[{"function": {"name": "f", "arguments": {}} | keys}])


DEEP: Any = "x"
for _ in range(100):
    DEEP = [DEEP]
WRONG_TYPES = [
    (turn(tool_calls=3), r"messages\[1\]\.tool_calls is int"),
    (turn(tool_calls=True), r"messages\[1\]\.tool_calls is bool"),
    (turn(tool_calls={"name": "f"}), r"messages\[1\]\.tool_calls is dict"),
    (turn(tool_calls=[None]), r"messages\[1\]\.tool_calls\[0\] is null"),
    (turn(tool_calls=["f"]), r"messages\[1\]\.tool_calls\[0\] is str"),
    (turn(tool_calls="f(x)"), r"messages\[1\]\.tool_calls is text that is not JSON"),
    (turn(tool_calls="{}"), r"messages\[1\]\.tool_calls is dict"),
    (turn(tool_calls=[{"function": "f"}]), r"messages\[1\]\.tool_calls\[0\]\.function is str"),
    (turn(tool_calls=[{"function": None}]), r"tool_calls\[0\]\.function is null"),
    (turn(tool_calls=[{}]), r"tool_calls\[0\]\.name is null"),
    (function(name=3), r"function\.name is int"),
    (function(name=""), r"function\.name is "),
    (function(arguments=[1]), r"function\.arguments is list"),
    (function(arguments=3), r"function\.arguments is int"),
    (turn(role=["assistant"]), r"messages\[1\]\.role is \['assistant'\]; allowed"),
    (turn(role=None), r"messages\[1\]\.role is None"),
    (turn(content={"text": "a"}), r"messages\[1\]\.content is dict"),
    (turn(content=["a"]), r"messages\[1\]\.content is list"),
    (turn(content=None), r"messages\[1\]\.content is null"),
    ({"messages": [{"role": "user"}, RIGHT]}, r"messages\[0\]\.content is null \(there is no such key\)"),
    (turn(name=["Ann"]), r"messages\[1\]\.name is list"),
    (turn(reasoning_content=["So."]), r"messages\[1\]\.reasoning_content is list"),
    (turn(thinking=3), r"messages\[1\]\.thinking is int"),
    (turn(tool_call_id=3), r"messages\[1\]\.tool_call_id is int"),
    (turn(weight="0"), r"messages\[1\]\.weight is '0'; a loss weight"),
    (turn(weight=-1), r"messages\[1\]\.weight is -1"),
    (turn(weight=float("nan")), r"messages\[1\]\.weight is nan"),
    (turn(weight=float("inf")), r"messages\[1\]\.weight is inf"),
    (turn(train=[]), r"messages\[1\]\.train is \[\]"),
    ({"messages": [ASK | {"train": True}, RIGHT]}, r"messages\[0\]\.train is True in a turn of the user"),
    (turn() | {"weight": "high"}, r"weight is 'high'"),
    (turn() | {"tools": 3}, r"tools is int"),
    (turn() | {"tools": [3]}, r"tools\[0\] is int"),
    (turn() | {"tools": [[]]}, r"tools\[0\] is list"),
    (turn() | {"tools": [{"type": "function", "function": {}}]}, r"tools\[0\]\.function\.name is null"),
    (turn() | {"tools": "times"}, r"tools is text that is not JSON"),
    (turn() | {"documents": "Doc."}, r"documents is str"),
    (turn() | {"documents": ["Doc."]}, r"documents\[0\] is str"),
    (turn() | {"chat_template_kwargs": "x"}, r"chat_template_kwargs is str"),
    (turn() | {"system": 3}, r"`system` is int"),
    (turn(mood="\ud800"), r"messages\[1\]\.mood: .*lone surrogate"),
    (turn() | {"note": DEEP}, r"note\[0\].* is nested more than 64 levels"),
    ({"messages": [ASK, None]}, r"messages\[1\] is None"),
    ({"messages": {"role": "user"}}, r"`messages` is .*it must be a list"),
]
WRONG_TURNS = [
    ([{"from": ["gpt"], "value": "a"}], r"conversations\[0\]\.from is \['gpt'\]; allowed"),
    ([{"from": {"a": 1}, "value": "a"}], r"conversations\[0\]\.from is \{'a': 1\}"),
    ([{"from": "gpt", "value": ["a"]}], r"conversations\[0\]\.value is \['a'\]"),
    ([{"from": "gpt", "value": "a", "tool_calls": [3]}], r"messages\[0\]\.tool_calls\[0\] is int"),
    ([{"from": "function_call", "value": "f(x)"}], r"conversations\[0\]\.value is text that is not JSON"),
    (["gpt: a"], r"conversations\[0\] is 'gpt: a'"),
]
WRONG_HISTORIES = [3, [["a"]], [["a", None]], [["a", 3]], {"a": "b"}]


@pytest.mark.parametrize(("bad", "message"), WRONG_TYPES)
def test_nested_values_of_wrong_types_are_named(tmp_path: Path, bad: Any, message: str):
    with pytest.raises(CamelidError, match=rf"rows\.jsonl:2: .*{message}"):
        list(read(tmp_path, turn(), bad))
    source = read(tmp_path, turn(), bad, turn(), skip=True)
    assert (len(list(source)), len(source.skipped)) == (2, 1)


@pytest.mark.parametrize(("turns", "message"), WRONG_TURNS)
def test_sharegpt_turns_of_wrong_types_are_named(tmp_path: Path, turns: Any, message: str):
    with pytest.raises(CamelidError, match=rf"rows\.jsonl:1: .*{message}"):
        list(read(tmp_path, {"conversations": turns}))


@pytest.mark.parametrize("history", WRONG_HISTORIES)
def test_histories_of_wrong_types_are_named(tmp_path: Path, history: Any):
    with pytest.raises(CamelidError, match=r"rows\.jsonl:1: .*history"):
        list(read(tmp_path, {"instruction": "a", "output": "b", "history": history}))


TAKES_TURNS = CHATML.replace(
    "{%- for message in messages -%}",
    "{%- for message in messages -%}{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('roles must take turns') }}{%- endif -%}",
)
EARLY_ANSWER = {"messages": [{"role": "assistant", "content": "Hi"}, ASK, RIGHT]}


def test_rows_that_the_template_refuses_can_be_skipped_and_are_listed(tmp_path: Path, tokenizer: Tokenizer):
    strict = with_template(tokenizer, TAKES_TURNS)
    source = read(tmp_path, turn(), EARLY_ANSWER, turn(), skip=True)
    made = conversation_examples(strict, source, 64, refuse=source.refuse)
    assert [where.rpartition(":")[2] for where in made.places] == ["1", "3"]
    assert [line.rpartition("rows.jsonl:")[2] for line in source.skipped] == [
        "2: the chat template rejects the conversation: roles must take turns"
    ]
    assert "2 conversations of shape OpenAI, 1 bad rows skipped" in source.summary
    unskipped = read(tmp_path, turn(), EARLY_ANSWER)
    with pytest.raises(CamelidError, match=r"rows\.jsonl:2: .*take turns.*skip-bad-rows"):
        conversation_examples(strict, unskipped, 64, refuse=unskipped.refuse)


def test_all_that_the_examples_refuse_are_bad_rows(tmp_path: Path, tokenizer: Tokenizer):
    long = turn(content="word " * 99)
    tools = turn(tool_calls=[{"function": {"name": "f", "arguments": {}}}])
    source = read(tmp_path, long, tools, turn(content="a\ufdd0"), turn(weight=0), turn(), skip=True)
    made = conversation_examples(tokenizer, source, 64, refuse=source.refuse)
    assert (len(made.examples), source.count, len(source.skipped)) == (1, 1, 4)
    nothing = read(tmp_path, long, long, skip=True)
    with pytest.raises(
        CamelidError, match=r"first that was refused: .*rows\.jsonl:1: .*the context holds 64"
    ):
        conversation_examples(tokenizer, nothing, 64, refuse=nothing.refuse)


def test_a_broken_template_is_not_a_bad_row(tmp_path: Path, tokenizer: Tokenizer):
    source = read(tmp_path, turn(), skip=True)
    for template, message in (("{% for %}", "line 1"), (None, "no chat template")):
        broken = Tokenizer(tokenizer.backend, tokenizer.config, chat_template=template, stop_ids=[0])
        with pytest.raises(CamelidError, match=message):
            conversation_examples(broken, source, 64, refuse=source.refuse)
    assert not source.skipped


def test_what_is_held_out_depends_on_the_words_only(tmp_path: Path, tokenizer: Tokenizer):
    rows = [turn(content=f"Number {n}.") | {"id": n} for n in range(40)]
    dated = with_template(tokenizer, "{{ strftime_now('%Y') }}" + PREFIX)
    parts = []
    for mine in (tokenizer, dated):
        made = conversation_examples(mine, read(tmp_path, *rows), 64)
        parts.append([part.places for part in hold_out_examples(made, 0.3)])
    assert parts[0] == parts[1]
    assert all(parts[0])
    one, other = (Conversation((Message("user", "a", extra={"id": n}),), extra={"n": n}) for n in (1, 2))
    assert draw_of(one) == draw_of(other)


def test_of_few_rows_the_one_with_the_lowest_draw_is_held_out(tmp_path: Path, tokenizer: Tokenizer):
    rows = [turn(content=f"Number {n}.") for n in range(5)]
    made = conversation_examples(tokenizer, read(tmp_path, *rows), 64)
    trained, held_out = hold_out_examples(made, 1e-9)
    assert held_out.places == [made.places[made.draws.index(min(made.draws))]]
    assert sorted(trained.places + held_out.places) == sorted(made.places)
    alone = conversation_examples(tokenizer, read(tmp_path, rows[0], rows[0]), 64)  # equal rows stay together
    with pytest.raises(CamelidError, match="2 rows are too few to hold out"):
        hold_out_examples(alone, 1e-9)


def test_rows_are_shown_with_their_trained_tokens_marked(tmp_path: Path, tokenizer: Tokenizer):
    source = read(
        tmp_path, {"messages": [ASK, WRONG | {"weight": 0}, AGAIN, RIGHT | {"weight": 0.5}]}, turn()
    )
    made = conversation_examples(tokenizer, source, 128)
    first, second = (row.plain for row in shown_rows(made, tokenizer, 2, coloured=False))
    assert first.startswith(f"{tmp_path / 'rows.jsonl'}:1: ")
    assert "assistant\nThree.<|im_end|>" in first
    assert "assistant\n[[0.5: Two.<|im_end|>]]" in first
    assert "[[Two.<|im_end|>]]" in second
    coloured = with_escapes(shown_rows(made, tokenizer, 2, coloured=True)[1])
    assert "\x1b[32mTwo.<|im_end|>\x1b[0m" in coloured
    assert "[[" not in coloured


def test_escapes_in_rows_do_not_reach_the_terminal(tmp_path: Path, tokenizer: Tokenizer):
    made = conversation_examples(tokenizer, read(tmp_path, turn(content="a\x1b[2Jb\x07")), 128)
    for coloured in (False, True):
        [row] = shown_rows(made, tokenizer, 1, coloured)
        assert "a\\x1b[2Jb\\x07" in row.plain
