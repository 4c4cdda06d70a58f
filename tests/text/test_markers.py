"""Markers before answers: the same tokens in training and in use, and none of them trained."""

from dataclasses import replace
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.text.chat_template import CHATML, ChatTemplate, encode_chat_prompt, encode_conversation
from camelid.text.conversation import Conversation, Message
from camelid.text.markers import STYLES, steered
from camelid.text.tokenizer import Tokenizer, train_tokenizer

TALK = Conversation.of(("Hello?", "Hi."), ("And now?", "Bye."), system="Be kind.")
ASKED = Conversation(TALK.messages[:-1])
PLAIN = CHATML.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
HEADER_INSIDE = (
    "{%- for m in messages -%}{%- if m.role == 'assistant' -%}{%- generation -%}<|im_start|>assistant\n"
    "{{ m.content }}<|im_end|>{%- endgeneration -%}{%- else -%}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "<|im_end|>{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["user assistant system GPT: An Unhelpful Answer: hello"] * 3, 320)


def with_template(tokenizer: Tokenizer, source: str) -> Tokenizer:
    return Tokenizer(tokenizer.backend, tokenizer.config, chat_template=source)


@pytest.mark.parametrize("source", [CHATML, PLAIN, HEADER_INSIDE])
@pytest.mark.parametrize("marker", ["GPT:", "<|im_end|> or so\n", *STYLES["hindsight"].values()])
def test_training_and_use_have_the_same_tokens(tokenizer: Tokenizer, source: str, marker: str):
    chat = with_template(tokenizer, source)
    ids, weights = encode_conversation(chat, replace(TALK, marker=marker))
    asked = encode_chat_prompt(chat, replace(ASKED, marker=marker))
    assert ids[: len(asked)] == asked
    assert chat.decode(asked, skip_special_tokens=False).endswith(f"assistant\n{marker}")
    trained = chat.decode([index for index, weight in zip(ids, weights, strict=True) if weight])
    assert trained.replace("assistant\n", "") == "Hi.Bye."
    assert chat.decode(ids, skip_special_tokens=False).count(marker) == 2


def test_without_a_marker_nothing_changes(tokenizer: Tokenizer):
    marked = encode_conversation(tokenizer, replace(TALK, marker="GPT:"))
    plain = encode_conversation(tokenizer, TALK)
    kept = [pair for pair in zip(*marked, strict=True) if pair[1]]
    assert kept == [pair for pair in zip(*plain, strict=True) if pair[1]]


def test_a_template_that_writes_the_marker_elsewhere_is_refused(tokenizer: Tokenizer):
    thinking = PLAIN.replace(
        "{{- message.content + '<|im_end|>' -}}",
        "{{- (message.reasoning_content or '') + message.content + '<|im_end|>' -}}",
    )
    reasoned = Message("assistant", "Hi.", extra={"reasoning_content": "Hm."})
    talk = Conversation((TALK.messages[1], reasoned), marker="GPT:")
    with pytest.raises(
        CamelidError, match=r"messages\[1\]: the chat template does not write the marker where"
    ):
        ChatTemplate(thinking).render(talk)


def test_markers_are_read_from_the_folder(tokenizer: Tokenizer, tmp_path: Path):
    with pytest.raises(WrongCall, match="was tuned without markers"):
        steered(tokenizer, tmp_path, "good")
    (tmp_path / "camelid.json").write_text('{"markers": {"good": "GPT:"}}')
    with pytest.raises(WrongCall, match="no marker 'bad'; it has good"):
        steered(tokenizer, tmp_path, "bad")
    chat = steered(with_template(tokenizer, CHATML), tmp_path, "good")
    assert encode_chat_prompt(chat, ASKED) == encode_chat_prompt(tokenizer, replace(ASKED, marker="GPT:"))
    (tmp_path / "camelid.json").write_text('{"markers": 3}')
    with pytest.raises(CamelidError, match="markers is 3; it must map names to texts"):
        steered(tokenizer, tmp_path, "good")
