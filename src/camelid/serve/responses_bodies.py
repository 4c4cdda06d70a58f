"""The body of OpenAI's `/v1/responses` without its state, read as a request for a chat completion."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from camelid.serve.bodies import STRICT, Asking, ChatBody, validated
from camelid.serve.errors import ApiError

Shape = dict[str, Any]
STATE = ("previous_response_id", "conversation", "background", "prompt")
"""Fields that ask for what a server would have to keep."""


class _Strict(BaseModel):
    model_config = STRICT


class TextPart(_Strict):
    """Text of the user's, or of an earlier answer."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = Field(default=None, max_length=0)
    logprobs: list[Any] | None = Field(default=None, max_length=0)


class MessageItem(_Strict):
    """A turn."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[TextPart]
    id: str | None = None
    status: str | None = None

    def message(self) -> Shape:
        """The turn in the form of chat completions."""
        parts = self.content
        return {
            "role": self.role,
            "content": parts if isinstance(parts, str) else "".join(part.text for part in parts),
        }


class CallItem(_Strict):
    """A call in an earlier answer."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: str | None = None

    def message(self) -> Shape:
        """The turn in the form of chat completions."""
        function = {"name": self.name, "arguments": self.arguments}
        call = {"id": self.call_id, "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}


class ResultItem(_Strict):
    """What a call gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: str
    id: str | None = None
    status: str | None = None

    def message(self) -> Shape:
        """The turn in the form of chat completions."""
        return {"role": "tool", "tool_call_id": self.call_id, "content": self.output}


class ReasoningItem(_Strict):
    """Thoughts of an earlier answer, which belong to the assistant's next turn."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: list[Any] | None = Field(default=None, max_length=0)
    content: list[Shape] | None = None
    status: str | None = None

    def message(self) -> Shape:
        """The turn in the form of chat completions."""
        thoughts = "".join(str(part.get("text", "")) for part in self.content or ())
        return {"role": "assistant", "content": None, "reasoning_content": thoughts}


Item = Annotated[MessageItem | CallItem | ResultItem | ReasoningItem, Field(discriminator="type")]


class FunctionTool(_Strict):
    """A function that the model may call."""

    type: Literal["function"]
    name: str = Field(min_length=1)
    description: str | None = None
    parameters: Shape | None = None
    strict: bool | None = None

    def as_function(self) -> Shape:
        """The tool in the form of chat completions."""
        about = self.model_dump(exclude_none=True, exclude={"type"})
        return {"type": "function", "function": about}


class Format(_Strict):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    description: str | None = None
    schema_: Shape | None = Field(default=None, alias="schema")
    strict: bool | None = None


class Text(_Strict):
    """Settings of the answer's text."""

    format: Format = Format()
    verbosity: None = None


class NamedChoice(_Strict):
    """A `tool_choice` that names the function to call."""

    type: Literal["function"]
    name: str


class ResponsesBody(Asking):
    """`POST /v1/responses`."""

    input: str | list[Item] = Field(min_length=1)
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=1.0, ge=0)
    top_p: float | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedChoice | None = None
    parallel_tool_calls: Literal[True] | None = None
    text: Text | None = None
    store: Literal[False] | None = None
    truncation: Literal["disabled"] | None = None
    include: list[str] | None = Field(default=None, max_length=0)
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _stateless(cls, values: Any) -> Any:
        if isinstance(values, dict):
            if values.get("store"):
                raise ApiError(
                    400, "store must be false: this server keeps no responses; send the items", param="store"
                )
            if given := [name for name in STATE if values.get(name)]:
                raise ApiError(
                    400,
                    f"{given[0]} is not supported: this server keeps no responses; send the whole "
                    "conversation as input",
                    param=given[0],
                )
            values = {name: value for name, value in values.items() if name not in STATE}
            if isinstance(values.get("input"), list):
                values = values | {"input": [_with_type(item) for item in values["input"]]}
        return values

    def asked(self) -> ChatBody:
        """The same request for a chat completion."""
        choice = self.tool_choice
        if isinstance(choice, NamedChoice):
            choice = {"type": "function", "function": {"name": choice.name}}  # type: ignore[assignment]
        values = {
            "model": self.model,
            "messages": [*self._messages()],
            "max_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "tools": [tool.as_function() for tool in self.tools] if self.tools else None,
            "tool_choice": choice,
            "response_format": self._format(),
        }
        return validated(ChatBody, values)

    def _messages(self) -> Iterator[Shape]:
        """The turns; what follows one another of the assistant's becomes one turn."""
        if self.instructions:
            yield {"role": "system", "content": self.instructions}
        if isinstance(self.input, str):
            yield {"role": "user", "content": self.input}
            return
        answer: Shape | None = None
        for item in self.input:
            message = item.message()
            if message["role"] != "assistant":
                if answer is not None:
                    yield answer
                answer = None
                yield message
                continue
            answer = message if answer is None else _joined(answer, message)
        if answer is not None:
            yield answer

    def _format(self) -> Shape | None:
        form = self.text.format if self.text else None
        if form is None or form.type == "text":
            return None
        if form.type == "json_object":
            return {"type": "json_object"}
        return {"type": "json_schema", "json_schema": {"name": form.name, "schema": form.schema_}}


def _with_type(item: Any) -> Any:
    """An item with its type, which messages may leave out."""
    return {"type": "message", **item} if isinstance(item, dict) and "role" in item else item


def _joined(answer: Shape, more: Shape) -> Shape:
    joined: Shape = {"role": "assistant", "content": None}
    for key in ("content", "reasoning_content"):
        if texts := [each[key] for each in (answer, more) if each.get(key)]:
            joined[key] = "".join(texts)
    if calls := [call for each in (answer, more) for call in each.get("tool_calls", ())]:
        joined["tool_calls"] = calls
    return joined
