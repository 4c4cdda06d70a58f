"""Examples and the gates before them."""

import numpy as np
import pytest

from camelid.base.errors import CamelidError
from camelid.data.rows.examples import conversation_example, conversation_examples
from camelid.text.chat_template import encode_conversation
from camelid.text.conversation import Conversation, Message
from camelid.text.tokenizer import Tokenizer, train_tokenizer

TALK = Conversation.of(("Hello?", "Hi!"), ("And now?", "Good bye."), ("So?", "No."), system="Be kind.")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["system user assistant hello now"] * 3, 300)


def with_template(tokenizer: Tokenizer, template: str) -> Tokenizer:
    return Tokenizer(tokenizer.backend, tokenizer.config, chat_template=template)


def test_a_doubled_bos_is_refused(tokenizer: Tokenizer):
    doubling = with_template(
        tokenizer, "{{ bos_token + bos_token }}{% generation %}{{ 'a' + eos_token }}{% endgeneration %}"
    )
    with pytest.raises(CamelidError, match="doubled"):
        conversation_example(doubling, TALK)


def test_exactly_the_answers_and_their_terminators_are_targets(tokenizer: Tokenizer):
    example = conversation_example(tokenizer, TALK)
    ids, _ = encode_conversation(tokenizer, TALK)
    assert [*example.tokens.tolist(), example.targets[-1]] == ids
    trained = example.targets[example.weights == 1].tolist()
    said = [[*tokenizer.encode(m.content), 2] for m in TALK.messages if m.role == "assistant"]
    assert trained == [index for answer in said for index in answer]
    assert set(np.unique(example.weights)) == {0, 1}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m.content }}{% generation %}{% endgeneration %}{% endfor %}", "no token"),
        (
            "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
            "terminator",
        ),
        ("{{ raise_exception('no!') }}{% generation %}{% endgeneration %}", "no!"),
    ],
)
def test_gates_name_the_row(tokenizer: Tokenizer, template: str, message: str):
    with pytest.raises(CamelidError, match=rf"^rows\.jsonl:7: .*{message}"):
        conversation_example(with_template(tokenizer, template), TALK, "rows.jsonl:7")


def test_a_row_without_an_assistant_is_named(tokenizer: Tokenizer):
    with pytest.raises(CamelidError, match=r"rows\.jsonl:7: no assistant turn"):
        conversation_example(tokenizer, Conversation((Message("user", "Hello?"),)), "rows.jsonl:7")


def test_too_long_stops_by_default(tokenizer: Tokenizer):
    length = len(conversation_example(tokenizer, TALK))
    with pytest.raises(CamelidError, match=rf"a:1: {length} tokens, the context holds {length - 1}"):
        conversation_examples(tokenizer, [(TALK, "a:1")], length - 1)
    assert len(conversation_examples(tokenizer, [(TALK, "a:1")], length).examples) == 1


def test_too_long_can_be_dropped_and_is_listed(tokenizer: Tokenizer):
    short = Conversation.of(("a", "b"))
    context = len(conversation_example(tokenizer, short))
    result = conversation_examples(tokenizer, [(TALK, "a:1"), (short, "a:2")], context, "drop")
    assert len(result.examples) == 1
    assert [line.split(":")[1] for line in result.dropped] == ["1"]
    with pytest.raises(CamelidError, match="1 were dropped"):
        conversation_examples(tokenizer, [(TALK, "a:1")], context, "drop")


def test_too_long_can_be_cut_at_whole_turns(tokenizer: Tokenizer):
    two_turns = Conversation(TALK.messages[:5])
    expected = conversation_example(tokenizer, two_turns)
    result = conversation_examples(tokenizer, [(TALK, "a:1")], len(expected) + 3, "cut")
    assert np.array_equal(result.examples[0].tokens, expected.tokens)
    assert len(result.cut) == 1
    with pytest.raises(CamelidError, match="dropped"):
        conversation_examples(tokenizer, [(TALK, "a:1")], 5, "cut")
