"""Held-out conversations as the model would have led them, and only those that it has not seen."""

import json
from types import SimpleNamespace

import pytest

from camelid.data.read.conversations import Conversations
from camelid.data.rows.examples import conversation_example, conversation_examples, hold_out_examples
from camelid.lm.interface import PromptTooLong
from camelid.text.conversation import Conversation, Message
from camelid.text.tokenizer import train_tokenizer
from camelid.workflows.quickstart import evaluation

CONTEXT, FRACTION = 64, 0.5


class Parrot:
    """Says what it was last told, and has room for `room` messages."""

    def __init__(self, room):
        self.room = room

    def generate(self, prompts, **_):
        [prompt] = prompts
        if len(prompt.messages) > self.room:
            raise PromptTooLong("no room")
        return [[SimpleNamespace(text=prompt.messages[-1].content.upper())]]


def talk(turns):
    pairs = [(Message("user", f"u{n}"), Message("assistant", f"a{n}")) for n in range(turns)]
    return Conversation(tuple(message for pair in pairs for message in pair))


def replayed(room, turns):
    return [message.content for message in evaluation._replay(Parrot(room), talk(turns)).messages]


def test_the_model_says_the_assistants_turns():
    assert replayed(100, 3) == ["u0", "U0", "u1", "U1", "u2", "U2"]
    assert len(replayed(100, 9)) == 2 * evaluation.MOST_TURNS


@pytest.mark.parametrize(("room", "messages"), [(0, 0), (1, 2), (2, 2), (3, 4)])
def test_a_talk_ends_with_the_last_answer_that_the_context_holds(room, messages):
    assert len(replayed(room, 5)) == messages


def test_own_talks_are_shown_only_where_training_has_not_seen_them(tmp_path, monkeypatch):
    tokenizer = train_tokenizer(["Who? What? Me, the duck. "] * 4, 300)
    rows = [
        {"instruction": f"Who {n}?", "output": f"Duck {n}. " * (20 if n % 3 == 0 else 1)} for n in range(60)
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"instruction": "No answer."}]))
    tokenizer.save(tmp_path / "model")
    monkeypatch.setattr(evaluation, "TALKS", 1000)
    job = SimpleNamespace(asks_the_world=False, tuned=tmp_path / "model", chats=(path,))
    data = SimpleNamespace(validation_fraction=FRACTION, skip_bad_rows=True)
    tuning = SimpleNamespace(data=data, training=SimpleNamespace(context_length=CONTEXT))
    shown = [
        conversation_example(tokenizer, talk).tokens.tolist()
        for talk in evaluation._held_out_talks(job, tuning)
    ]
    made = conversation_examples(tokenizer, Conversations(path, True), CONTEXT, "cut")
    trained, held_out = hold_out_examples(made, FRACTION)
    assert shown == [example.tokens.tolist() for example in held_out.examples]
    assert not {tuple(ids) for ids in shown} & {tuple(example.tokens) for example in trained.examples}
