"""The bodies of Anthropic's `/v1/messages`, read as requests for a chat completion."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from camelid.base.json import json_line
from camelid.serve.bodies import STRICT, Asking, ChatBody, Named, validated
from camelid.serve.errors import ApiError

Shape = dict[str, Any]
LEAST_BUDGET = 1024
"""Tokens of thoughts, as in Anthropic's API."""


class _Strict(BaseModel):
    model_config = STRICT


class TextBlock(_Strict):
    """Text; `cache_control` changes nothing, since every prefix is cached."""

    type: Literal["text"]
    text: str
    cache_control: Shape | None = None
    citations: None = None


class ThinkingBlock(_Strict):
    """Thoughts of an earlier answer."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class ToolUseBlock(_Strict):
    """A call in an earlier answer."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: Shape
    cache_control: Shape | None = None


class ToolResultBlock(_Strict):
    """What a call gave."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[TextBlock] = ""
    is_error: bool | None = None
    cache_control: Shape | None = None


class UserTurn(_Strict):
    """What the user says, or the results of calls."""

    role: Literal["user"]
    content: str | list[Annotated[TextBlock | ToolResultBlock, Field(discriminator="type")]]

    def messages(self) -> Iterator[Shape]:
        """The turn as messages of OpenAI's form."""
        blocks = (
            [TextBlock(type="text", text=self.content)] if isinstance(self.content, str) else self.content
        )
        for block in blocks:
            if isinstance(block, ToolResultBlock):
                yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": text_of(block.content)}
        if texts := [block for block in blocks if isinstance(block, TextBlock)]:
            yield {"role": "user", "content": text_of(texts)}


class AssistantTurn(_Strict):
    """An earlier answer."""

    role: Literal["assistant"]
    content: str | list[Annotated[TextBlock | ThinkingBlock | ToolUseBlock, Field(discriminator="type")]]

    def messages(self) -> Iterator[Shape]:
        """The turn as a message of OpenAI's form."""
        if isinstance(self.content, str):
            yield {"role": "assistant", "content": self.content}
            return
        message: Shape = {"role": "assistant"}
        message["content"] = text_of([each for each in self.content if isinstance(each, TextBlock)])
        if thoughts := [each.thinking for each in self.content if isinstance(each, ThinkingBlock)]:
            message["reasoning_content"] = "".join(thoughts)
        if calls := [each for each in self.content if isinstance(each, ToolUseBlock)]:
            message["tool_calls"] = [
                {
                    "id": each.id,
                    "type": "function",
                    "function": {"name": each.name, "arguments": json_line(each.input).strip()},
                }
                for each in calls
            ]
        yield message


class Tool(_Strict):
    """A function that the model may call."""

    type: Literal["custom"] | None = None
    name: str = Field(min_length=1)
    description: str = ""
    input_schema: Shape
    cache_control: Shape | None = None

    def as_function(self) -> Shape:
        """The tool in OpenAI's form."""
        about = {"name": self.name, "description": self.description, "parameters": self.input_schema}
        return {"type": "function", "function": about}


class ToolChoice(_Strict):
    """Whether a tool is called."""

    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: Literal[False] | None = None


class Metadata(_Strict):
    """Whom a request is for; it changes nothing."""

    user_id: str | None = None


class ThinkingOn(_Strict):
    """Thoughts before the answer. The budget is a target that the model is not told and not held to; thoughts
    count as the answer's tokens."""

    type: Literal["enabled"]
    budget_tokens: int = Field(ge=LEAST_BUDGET)
    display: Literal["summarized"] | None = None


class ThinkingAdaptive(_Strict):
    """Thoughts as the model likes."""

    type: Literal["adaptive"]
    display: Literal["summarized"] | None = None


class ThinkingOff(_Strict):
    """No thoughts."""

    type: Literal["disabled"]


Thinking = Annotated[ThinkingOn | ThinkingAdaptive | ThinkingOff, Field(discriminator="type")]


class OutputFormat(_Strict):
    """A schema that the answer is held to."""

    type: Literal["json_schema"]
    schema_: Shape = Field(alias="schema")


class OutputConfig(_Strict):
    """The form of the answer."""

    format: OutputFormat | None = None


class CountBody(Named):
    """`POST /v1/messages/count_tokens`."""

    messages: list[Annotated[UserTurn | AssistantTurn, Field(discriminator="role")]] = Field(min_length=1)
    system: str | list[TextBlock] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: Shape | None = None

    def chat(self, **settings: Any) -> ChatBody:
        """The same request for a chat completion."""
        head = [] if self.system is None else [{"role": "system", "content": text_of(self.system)}]
        values = {
            "model": self.model,
            "messages": [*head, *(each for turn in self.messages for each in turn.messages())],
            "tools": [tool.as_function() for tool in self.tools] if self.tools else None,
            "tool_choice": self._choice(),
            "response_format": self._format(),
        }
        return validated(ChatBody, values | settings)

    def _format(self) -> Shape | None:
        if self.output_config is None or self.output_config.format is None:
            return None
        return {"type": "json_schema", "json_schema": {"schema": self.output_config.format.schema_}}

    def _choice(self) -> Any:
        if self.tool_choice is None:
            return None
        if self.tool_choice.type != "tool":
            return {"any": "required"}.get(self.tool_choice.type, self.tool_choice.type)
        if not self.tool_choice.name:
            raise ApiError(400, "tool_choice of type tool needs the tool's name")
        return {"type": "function", "function": {"name": self.tool_choice.name}}


class MessagesBody(CountBody, Asking):
    """`POST /v1/messages`."""

    max_tokens: int = Field(ge=1)
    stop_sequences: list[str] | None = None
    temperature: float | None = Field(default=1.0, ge=0)
    top_p: float | None = None
    top_k: int | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None

    def asked(self, **settings: Any) -> ChatBody:
        """The same request for a chat completion."""
        if isinstance(self.thinking, ThinkingOn) and self.thinking.budget_tokens >= self.max_tokens:
            raise ApiError(
                400,
                f"thinking.budget_tokens is {self.thinking.budget_tokens}; it must be less than max_tokens, "
                f"{self.max_tokens}",
            )
        return self.chat(
            **settings,
            max_tokens=self.max_tokens,
            stop=self.stop_sequences,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
        )


def text_of(content: str | list[TextBlock]) -> str:
    """Content in parts as one text."""
    return content if isinstance(content, str) else "".join(block.text for block in content)
