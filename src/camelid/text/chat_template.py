"""Conversations to token ids and a loss mask: one rendering for training and serving.

A chat template is the Jinja template of a checkpoint folder. It is rendered in a sandbox, with the
environment that transformers documents. The loss mask comes from the rendering itself: from `{% generation
%}` blocks where the template has them, otherwise from the difference between two renderings: the conversation
up to an assistant turn with the generation prompt, and the conversation with that turn.

The rendered text is tokenised segment by segment, so no token crosses the border of an assistant turn and the
model is trained on exactly the ids that it is served with. Message content is plain text: a special token
spelled out in a message is encoded as its characters and cannot end or open a turn.

A template is given every key of a row. `text/message_forms.py` decides between the forms in which data sets
write the same message (arguments as text or object, null or no key).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property, partial
from typing import Any, Protocol

from camelid.base.errors import CamelidError
from camelid.text.conversation import Conversation
from camelid.text.message_forms import rendered_form
from camelid.text.sandbox import Template, render
from camelid.text.segments import (
    BREAK,
    FREE,
    HELD,
    LITERAL,
    MARKS,
    MARKUP,
    Segment,
    segments,
    turn_length,
)
from camelid.text.template_environment import TRAINED, UNTRAINED, environment, written_time

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


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja chat template, the token names it can use, and the special tokens that messages cannot set.

    today: the day that `strftime_now` writes; None for the day of the rendering. marker: the text before each
    answer of conversations that have none themselves (`text.markers`).
    """

    source: str
    variables: Mapping[str, str] = field(default_factory=dict)
    special_tokens: tuple[str, ...] = ()
    today: date | None = None
    marker: str = ""

    def render(
        self, conversation: Conversation, add_generation_prompt: bool = False, *, mask: bool = True
    ) -> list[Segment]:
        """The conversation as text in segments, in order.

        Without `mask`, turns whose trained part cannot be determined are treated as untrained text. Raises
        `CamelidError` if the template rejects the conversation. With `mask`, also if the template has no
        generation blocks and the rendering of a shorter conversation is not a prefix of the longer one.
        """
        guarded = self._guarded(self.given(conversation))
        if marker := conversation.marker or self.marker:
            guarded = self._with_marker(guarded, marker)
        whole = self._text(guarded, len(conversation.messages), add_generation_prompt)
        if marker and mask:
            self._check_markers(conversation, guarded, whole)
        if marker and add_generation_prompt:
            whole = self._opening(guarded, len(conversation.messages), marker)
        if not self.marks_generation:
            return segments(*self._marked(conversation, guarded, whole, mask))
        return segments(whole, self._block_weights(conversation, guarded, whole) if mask else [])

    def given(self, conversation: Conversation) -> dict[str, Any]:
        """What the template is given: messages, tools, documents and the row's further keys.

        Keys cannot replace the template's own functions, its tokens or `add_generation_prompt`.
        """
        extra = dict(conversation.extra)
        settings = extra.pop("chat_template_kwargs", None) or {}
        own = ("messages", "tools", "add_generation_prompt", "strftime_now")
        taken = {*self.variables, *environment().globals, *own}
        if refused := sorted(taken & settings.keys()):
            raise CamelidError(f"chat_template_kwargs.{refused[0]} is the template's own; remove it")
        given = {name: value for name, value in (extra | settings).items() if name not in taken}
        base = {"documents": None, **given}
        if conversation.tools is not None:
            base["tools"] = [dict(tool) for tool in conversation.tools]
        elif not self._fails_on_none_as_tools:
            base["tools"] = None

        def attempt(messages: Sequence[Mapping[str, Any]]) -> str:
            return self.text({**base, "messages": messages})

        return {**base, "messages": rendered_form(conversation.as_dicts(), attempt)}

    def text(self, given: Mapping[str, Any], add_generation_prompt: bool = False) -> str:
        """The rendering of these variables as plain text."""
        clock = datetime.now() if self.today is None else self.today
        now = partial(written_time, clock.isoformat())
        own = {"add_generation_prompt": add_generation_prompt, "strftime_now": now}
        return render(self._compiled, {**self.variables, **given, **own})

    def compile(self) -> None:
        """Raises `CamelidError` if the template cannot be compiled."""
        _ = self._compiled

    @cached_property
    def uses_clock(self) -> bool:
        """Whether the rendering can depend on the day."""
        return "strftime_now" in self.source

    @cached_property
    def _fails_on_none_as_tools(self) -> bool:
        """Whether the template asks if tools are defined, and then needs some; transformers defines None."""
        plain = {"messages": Conversation.of((ANSWER, ANSWER)).as_dicts(), "documents": None}
        try:
            self.text({**plain, "tools": None})
        except CamelidError:
            try:
                self.text(plain)
            except CamelidError:
                return False
            return True
        return False

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
        return environment().read(self.source, trusted=self.source == CHATML)

    @cached_property
    def _forgeries(self) -> re.Pattern[str]:
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def _text(self, guarded: Mapping[str, Any], turns: int, add_generation_prompt: bool) -> str:
        """The first `turns` messages rendered, with marks around trained and literal spans."""
        given = {**guarded, "messages": guarded["messages"][:turns]}
        # A mark cut from its token (content.split('</think>')) is a break between tokens, as in transformers.
        marks = f"({LITERAL}(?:{self._forgeries.pattern}){MARKUP})|[{LITERAL}{MARKUP}]"
        return re.sub(marks, lambda found: found[1] or BREAK, self.text(given, add_generation_prompt))

    def _guarded(self, value: Any) -> Any:
        """The same value; special tokens spelled out in its strings are marked as literal."""
        if isinstance(value, str):
            if mark := MARKS.search(value):
                raise CamelidError(f"a message holds U+{ord(mark[0]):04X}, a Unicode noncharacter; remove it")
            return self._forgeries.sub(lambda forged: f"{LITERAL}{forged[0]}{MARKUP}", value)
        if isinstance(value, Mapping):
            return {self._guarded(key): self._guarded(entry) for key, entry in value.items()}
        if isinstance(value, Sequence):
            return [self._guarded(entry) for entry in value]
        return value

    def _with_marker(self, guarded: Mapping[str, Any], marker: str) -> dict[str, Any]:
        """The same variables with the marker before each of the assistant's answers."""
        held = f"{HELD}{BREAK}{self._guarded(marker)}{FREE}{BREAK}"
        messages = [
            {**message, "content": held + (message.get("content") or "")}
            if message["role"] == "assistant"
            else message
            for message in guarded["messages"]
        ]
        return {**guarded, "messages": messages}

    def _opening(self, guarded: Mapping[str, Any], turns: int, marker: str) -> str:
        """The rendering of the first `turns` messages and of an answer's beginning, up to its marker."""
        answer = self._with_marker({"messages": [{"role": "assistant", "content": ANSWER}]}, marker)
        messages = [*guarded["messages"][:turns], *answer["messages"]]
        before, mark, _ = self._text({**guarded, "messages": messages}, turns + 1, False).rpartition(FREE)
        if not mark:
            raise CamelidError("the chat template does not show the marker before an answer")
        return before + FREE + BREAK

    def _check_markers(self, conversation: Conversation, guarded: Mapping[str, Any], whole: str) -> None:
        """Raises `CamelidError` unless each answer begins as it would in use."""
        marks = re.compile(f"[{TRAINED}{UNTRAINED}]")
        for index, _ in _assistant_turns(conversation):
            opening = self._opening(guarded, index, conversation.marker or self.marker)
            if not marks.sub("", whole).startswith(marks.sub("", opening)):
                raise CamelidError(
                    f"messages[{index}]: the chat template does not write the marker where the model would "
                    "begin its answer, so a trained marker would differ from one in use; remove the row's "
                    "reasoning or tool calls, or use a template that writes the content first"
                )

    def _marked(
        self, conversation: Conversation, guarded: Mapping[str, Any], whole: str, mask: bool
    ) -> tuple[str, list[float]]:
        """The whole rendering, with marks around the assistant's words in each of its turns, and the turns'
        loss weights."""
        marked, position, weights = list[str](), 0, list[float]()
        for index, weight in _assistant_turns(conversation):
            try:
                begin, end = self._turn(guarded, index, whole)
            except CamelidError:
                if mask:
                    raise
                continue
            marked += [whole[position:begin], TRAINED, whole[begin:end], UNTRAINED]
            weights.append(weight)
            position = end
        return "".join([*marked, whole[position:]]), weights

    def _turn(self, guarded: Mapping[str, Any], index: int, whole: str) -> tuple[int, int]:
        """Where the assistant's words of one turn begin and end in the whole rendering."""
        opened = self._text(guarded, index, True)
        closed = self._text(guarded, index + 1, False)
        if not whole.startswith(closed):  # some templates end the whole text, but not the turn, with EOS
            closed = closed.removesuffix(self.variables.get("eos_token", ""))
        if not (closed.startswith(opened) and whole.startswith(closed)):
            raise CamelidError(
                f"messages[{index}]: the chat template renders the conversation before this turn "
                "differently once this turn or a later one follows, so the trained part cannot be "
                "determined; mark it in the template with {% generation %} ... {% endgeneration %}"
            )
        content = guarded["messages"][index].get("content") or ""
        return len(opened), len(opened) + turn_length(closed[len(opened) :], content)

    def _block_weights(
        self, conversation: Conversation, guarded: Mapping[str, Any], whole: str
    ) -> list[float]:
        """The loss weight of each generation block in the rendering, that of the turn it belongs to."""
        blocks, turns = whole.count(TRAINED), _assistant_turns(conversation)
        if len({weight for _, weight in turns}) <= 1:
            return [weight for _, weight in turns[:1]] * blocks
        weights = list[float]()
        for index, weight in turns:
            more = self._text(guarded, index + 1, False).count(TRAINED) - len(weights)
            if more < 0:
                break
            weights += [weight] * more
        if len(weights) != blocks:
            raise CamelidError(
                "the turns have different loss weights, and the chat template marks other parts once a later "
                "turn follows, so the parts of each turn cannot be determined"
            )
        return weights


def _assistant_turns(conversation: Conversation) -> list[tuple[int, float]]:
    """The index and the loss weight of each of the assistant's turns."""
    return [
        (index, message.loss_weight * conversation.loss_weight)
        for index, message in enumerate(conversation.messages)
        if message.role == "assistant"
    ]


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
) -> tuple[list[int], list[float]]:
    """Ids of a conversation, and the loss weight of each: 0 where it is not trained.

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
) -> tuple[list[int], list[float]]:
    if tokenizer.chat_template is None:
        raise CamelidError(
            "this tokenizer has no chat template: tune the model on conversations first, or put a "
            "chat_template.jinja into its folder"
        )
    ids: list[int] = []
    weights: list[float] = []
    for segment in tokenizer.chat_template.render(conversation, add_generation_prompt, mask=mask):
        new = tokenizer.encode(segment.text, markup=not segment.literal, continues=tokenizer.goes_on(ids))
        ids += new
        weights += [segment.weight if segment.trained else 0.0] * len(new)
    return ids, weights
