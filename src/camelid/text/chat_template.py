"""Conversations to token ids and a loss mask: one rendering for training and serving.

A chat template is the Jinja template of a checkpoint folder. It is rendered in a sandbox, with the
environment that transformers documents. The loss mask comes from the rendering itself: from `{% generation
%}` blocks where the template has them, otherwise from the difference between two renderings: the conversation
up to an assistant turn with the generation prompt, and the conversation with that turn.

The rendered text is tokenised segment by segment, so no token crosses the border of an assistant turn and the
model is trained on exactly the ids that it is served with. Message content is plain text: a special token
spelled out in a message is encoded as its characters and cannot end or open a turn.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Macro

from camelid.base.errors import CamelidError
from camelid.text.conversation import Conversation
from camelid.text.sandbox import Sandbox, Template, render

CHATML = """\
{%- if tools %}{{ raise_exception('this template has no place for tools') }}{% endif -%}
{%- for message in messages -%}
{%- if message.tool_calls %}{{ raise_exception('this template has no place for tool calls') }}{% endif -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.role == 'assistant' -%}
{%- generation -%}{{- message.content + '<|im_end|>' -}}{%- endgeneration -%}
{%- else -%}
{{- message.content + '<|im_end|>' -}}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
"""ChatML; the assistant's turns and their terminator are trained."""

ANSWER = "So be it."
"""Sample answer, rendered to find out what the template writes after one."""
# Unicode noncharacters, "intended for process-internal use" (Unicode 16, section 23.7): they mark spans
# during rendering and are removed before the text is used.
_TRAINED, _UNTRAINED, _LITERAL, _MARKUP = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3"
_MARKS = re.compile(f"([{_TRAINED}{_UNTRAINED}{_LITERAL}{_MARKUP}])")


@dataclass(frozen=True)
class Segment:
    """A span of a rendered conversation; in `literal` text, special tokens are not recognised."""

    text: str
    trained: bool
    literal: bool = False


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja chat template, the token names it can use, and the special tokens that messages cannot set."""

    source: str
    variables: Mapping[str, str] = field(default_factory=dict)
    special_tokens: tuple[str, ...] = ()

    def render(
        self, conversation: Conversation, add_generation_prompt: bool = False, *, mask: bool = True
    ) -> list[Segment]:
        """The conversation as text in segments, in order.

        Without `mask`, turns whose trained part cannot be determined are treated as untrained text. Raises
        `CamelidError` if the template rejects the conversation. With `mask`, also if the template has no
        generation blocks and the rendering of a shorter conversation is not a prefix of the longer one.
        """
        whole = self._text(conversation, len(conversation.messages), add_generation_prompt)
        return _segments(whole if self.marks_generation else self._marked(conversation, whole, mask))

    @cached_property
    def marks_generation(self) -> bool:
        """Whether the template marks the trained part itself, with `{% generation %}` blocks."""
        return re.search(r"\{%[-+]?\s*generation\s*[-+]?%\}", self.source) is not None

    @cached_property
    def terminator(self) -> str | None:
        """The special token that ends an assistant's turn; None if turns end in plain text."""
        segments = self.render(Conversation.of((ANSWER, ANSWER)), mask=False)
        _, answer, rest = "".join(segment.text for segment in segments).rpartition(ANSWER)
        found = self._forgeries.match(rest.lstrip()) if answer else None
        return None if found is None else found[0]

    @cached_property
    def _compiled(self) -> Template:
        return _environment().read(self.source, trusted=self.source == CHATML)

    @cached_property
    def _forgeries(self) -> re.Pattern[str]:
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def _text(self, conversation: Conversation, turns: int, add_generation_prompt: bool) -> str:
        """The first `turns` messages rendered, with marks around trained and literal spans."""
        variables = {
            "messages": self._guarded(conversation.as_dicts()[:turns]),
            "tools": self._guarded(conversation.tools),
            "add_generation_prompt": add_generation_prompt,
        }
        return render(self._compiled, {**self.variables, **variables})

    def _guarded(self, value: Any) -> Any:
        """The same value; special tokens spelled out in its strings are marked as literal."""
        if isinstance(value, str):
            if mark := _MARKS.search(value):
                raise CamelidError(f"a message holds U+{ord(mark[0]):04X}, a Unicode noncharacter; remove it")
            return self._forgeries.sub(lambda forged: f"{_LITERAL}{forged[0]}{_MARKUP}", value)
        if isinstance(value, Mapping):
            return {key: self._guarded(entry) for key, entry in value.items()}
        if isinstance(value, Sequence):
            return [self._guarded(entry) for entry in value]
        return value

    def _marked(self, conversation: Conversation, whole: str, mask: bool) -> str:
        """The whole rendering, with marks around the assistant's words in each of its turns."""
        marked, position = [], 0
        for index, message in enumerate(conversation.messages):
            if message.role != "assistant":
                continue
            try:
                begin, end = self._turn(conversation, index, whole)
            except CamelidError:
                if mask:
                    raise
                continue
            marked += [whole[position:begin], _TRAINED, whole[begin:end], _UNTRAINED]
            position = end
        return "".join([*marked, whole[position:]])

    def _turn(self, conversation: Conversation, index: int, whole: str) -> tuple[int, int]:
        """Where the assistant's words of one turn begin and end in the whole rendering."""
        opened = self._text(conversation, index, True)
        closed = self._text(conversation, index + 1, False)
        if not (closed.startswith(opened) and whole.startswith(closed)):
            raise CamelidError(
                f"messages[{index}]: the chat template renders the conversation before this turn "
                "differently once this turn or a later one follows, so the trained part cannot be "
                "determined; mark it in the template with {% generation %} ... {% endgeneration %}"
            )
        content = self._guarded(conversation.messages[index].content)
        return len(opened), len(opened) + _turn_length(closed[len(opened) :], content)


class ChatVocabulary(Protocol):
    """The part of a `Tokenizer` that this module needs."""

    chat_template: ChatTemplate | None

    def encode(
        self, text: str, special_tokens: bool = False, *, markup: bool = False, continues: bool = False
    ) -> list[int]:
        """The ids of a text; with `markup`, special tokens spelled out in it become their ids."""

    def goes_on(self, ids: Sequence[int]) -> bool:
        """Whether a text after these ids continues them, rather than starting a new text."""


def encode_conversation(
    tokenizer: ChatVocabulary, conversation: Conversation, add_generation_prompt: bool = False
) -> tuple[list[int], list[bool]]:
    """Ids of a conversation, and for each id whether it is trained.

    Raises `CamelidError` if the tokenizer has no chat template or the template rejects the conversation.
    """
    return _encode(tokenizer, conversation, add_generation_prompt, mask=True)


def encode_chat_prompt(tokenizer: ChatVocabulary, conversation: Conversation) -> list[int]:
    """Ids of a conversation with the generation prompt: the assistant's turn comes next.

    The same ids as from `encode_conversation`, but a prompt needs no loss mask.
    """
    return _encode(tokenizer, conversation, True, mask=False)[0]


def _encode(
    tokenizer: ChatVocabulary, conversation: Conversation, add_generation_prompt: bool, mask: bool
) -> tuple[list[int], list[bool]]:
    if tokenizer.chat_template is None:
        raise CamelidError(
            "this tokenizer has no chat template: tune the model on conversations first, or put a "
            "chat_template.jinja into its folder"
        )
    ids: list[int] = []
    trained: list[bool] = []
    for segment in tokenizer.chat_template.render(conversation, add_generation_prompt, mask=mask):
        new = tokenizer.encode(segment.text, markup=not segment.literal, continues=tokenizer.goes_on(ids))
        ids += new
        trained += [segment.trained] * len(new)
    return ids, trained


def _turn_length(turn: str, content: str) -> int:
    """Length of the assistant's part of a rendered turn: all but white space after the terminator."""
    said, content = turn.rstrip(), content.rstrip()
    # If only white space follows the content, it is the terminator. The content is searched from
    # the beginning, because a terminator may end like a short answer (`>` and `<|im_end|>`).
    after = said.find(content) + len(content)
    ends_in_space = not said or (content and content in said and after == len(said))
    return len(turn) if ends_in_space else len(said)


def _segments(marked: str) -> list[Segment]:
    """Splits text at the marks and joins neighbours of the same kind, so that they are tokenised together."""
    segments: list[Segment] = []
    trained = literal = False
    for piece in _MARKS.split(marked):
        if piece in (_TRAINED, _UNTRAINED):
            trained = piece == _TRAINED
        elif piece in (_LITERAL, _MARKUP):
            literal = piece == _LITERAL
        elif piece and segments and (segments[-1].trained, segments[-1].literal) == (trained, literal):
            segments[-1] = Segment(segments[-1].text + piece, trained, literal)
        elif piece:
            segments.append(Segment(piece, trained, literal))
    return segments


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}`: puts marks around the assistant's words."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Macro) -> str:
        return f"{_TRAINED}{caller()}{_UNTRAINED}"


def _environment() -> Sandbox:
    environment = Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Plain JSON; Jinja's own filter escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)
