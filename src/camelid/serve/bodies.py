"""The bodies of requests: OpenAI's fields, each of them obeyed, or refused by its name."""

import secrets
from collections.abc import Mapping
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from camelid.base.errors import CamelidError, shortened
from camelid.base.json import NotJSONError, parse
from camelid.lm.sampling import Sampling
from camelid.serve.errors import ApiError
from camelid.text.conversation import Conversation, functions

MOST_SAMPLES = 128
"""Answers to one request, as in OpenAI's API."""
MOST_ALTERNATIVES = 20

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)
"""Of all bodies; the validator of each is built at its first request, so that the server starts sooner."""
Body = TypeVar("Body", bound="Named")
Tokens = list[int]


class Part(BaseModel):
    """A part of a message's content; only text is read."""

    model_config = STRICT | {"defer_build": False}  # it is read in several threads
    type: Literal["text"]
    text: str


class Named(BaseModel):
    """A body that may name its model."""

    model_config = STRICT
    model: str | None = None


class Asking(Named):
    """A body that asks for an answer, whole or as a stream."""

    stream: bool | None = False


class TokenizeBody(Named):
    """`POST /tokenize`: a text as the model reads it, or messages through its template."""

    content: str | None = None
    messages: list[dict[str, Any]] | None = None

    def prompt(self) -> str | Conversation:
        """What to encode; raises `ApiError` unless exactly one of the two is given."""
        if self.content is not None and self.messages is None:
            return self.content
        if self.messages and self.content is None:
            return _conversation(self.messages)
        raise ApiError(400, "give either content or messages", param="content")


class DetokenizeBody(Named):
    """`POST /detokenize`."""

    tokens: Tokens


class Common(Asking):
    """What chat completions and completions share.

    Fields that change nothing in the answer are accepted; every unknown field is refused by its name, since
    ignoring it would answer another question than the one that was asked.
    """

    temperature: float | None = Field(default=1.0, ge=0)
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int | None = Field(default=1, ge=1, le=MOST_SAMPLES)
    stream_options: dict[str, bool] | None = None
    presence_penalty: float | None = 0.0
    frequency_penalty: float | None = 0.0
    repetition_penalty: float | None = 1.0
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="after")
    def _streams(self) -> Self:
        if self.stream_options and not self.stream:
            raise ApiError(400, "stream_options needs stream: true", param="stream_options")
        return self

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the count of tokens."""
        return bool((self.stream_options or {}).get("include_usage"))

    @property
    def samples(self) -> int:
        return self.n or 1

    def sampling(self, max_new_tokens: int, **constraint: Any) -> Sampling:
        """The sampling settings; without a seed of the request's own a random one."""
        return Sampling(
            max_new_tokens=max_new_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            seed=secrets.randbits(48) if self.seed is None else self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            samples=self.samples,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            logit_bias=_bias(self.logit_bias or {}),
            **constraint,
        )


class FunctionName(BaseModel):
    """A function by its name."""

    model_config = STRICT
    name: str


class NamedTool(BaseModel):
    """A `tool_choice` that names the function to call."""

    model_config = STRICT
    type: Literal["function"]
    function: FunctionName


class ChatBody(Common):
    """`POST /v1/chat/completions`."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(default=None, ge=0, le=MOST_ALTERNATIVES)
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: Literal[True] | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def conversation(self) -> Conversation:
        """The messages, with content in parts put together; raises `ApiError` naming the wrong one."""
        read = _conversation(self.messages)
        if read.messages[-1].role == "assistant":
            raise ApiError(
                400, "the last message is the assistant's: there is nothing to answer", param="messages"
            )
        try:
            tools = functions(self.tools, "tools") if self.offers_tools else None
        except CamelidError as error:
            raise ApiError(400, str(error), param="tools") from error
        return Conversation(read.messages, tools, {"chat_template_kwargs": self.chat_template_kwargs})

    @property
    def offers_tools(self) -> bool:
        """Whether the model may call functions; raises `ApiError` if it must, and there is none."""
        if not self.tools and self.tool_choice not in (None, "auto", "none"):
            raise ApiError(400, "tool_choice needs tools", param="tool_choice")
        return bool(self.tools) and self.tool_choice != "none"

    def forced_functions(self) -> dict[str, dict[str, Any]]:
        """The functions of which one must be called, with the schemas of their arguments; none if the model
        may choose. Raises `ApiError` at what could not be enforced."""
        given = [tool.get("function", tool) for tool in self.tools or ()]
        if self.tool_choice in (None, "auto", "none"):
            if strict := [each["name"] for each in given if each.get("strict")]:
                raise ApiError(
                    400,
                    f"the function {strict[0]} is strict; tool_choice must then be required or name it",
                    param="tools",
                )
            return {}
        if self.response_format and self.response_format.get("type") != "text":
            raise ApiError(400, "response_format and a tool_choice that forces a call exclude each other")
        functions = {each["name"]: each.get("parameters") or {"type": "object"} for each in given}
        if not isinstance(self.tool_choice, NamedTool):
            return functions
        name = self.tool_choice.function.name
        if name not in functions:
            raise ApiError(400, f"tool_choice names {name!r}, which is not in tools", param="tool_choice")
        return {name: functions[name]}

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many alternatives are reported with each token; None if no log-probabilities are wanted."""
        if not self.logprobs:
            if self.top_logprobs:
                raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
            return None
        return self.top_logprobs or 0

    def constraint(self) -> dict[str, Any]:
        """The schema that the answer must satisfy, as settings of `Sampling`."""
        asked = self.response_format or {"type": "text"}
        match asked.get("type"):
            case "text":
                return {}
            case "json_object":
                return {"json_schema": {"type": "object"}}
            case "json_schema" if isinstance(named := asked.get("json_schema"), dict) and isinstance(
                schema := named.get("schema"), dict
            ):
                return {"json_schema": schema}
        raise ApiError(
            400,
            f"response_format is {shortened(asked)}; it must be of type text, json_object, or json_schema "
            "with json_schema.schema",
            param="response_format",
        )


class CompletionBody(Common):
    """`POST /v1/completions`."""

    prompt: str | list[str] | Tokens | list[Tokens]
    max_tokens: int | None = Field(default=16, ge=0)
    echo: bool | None = False
    logprobs: int | None = Field(default=None, ge=0, le=MOST_ALTERNATIVES)

    def prompts(self) -> list[str | Tokens]:
        """The prompts one by one."""
        given = self.prompt
        if isinstance(given, str) or (given and isinstance(given[0], int)):
            return [given]
        if not given:
            raise ApiError(400, "prompt is an empty list; give at least one prompt", param="prompt")
        return list(given)  # type: ignore[arg-type]


def read_body(kind: type[Body], raw: bytes) -> Body:
    """The request's body; raises `ApiError` that names the field, its value and what is allowed."""
    try:
        values = parse(raw, strict=True)
    except NotJSONError as error:
        raise ApiError(400, f"the body is {error}") from error
    if not isinstance(values, dict):
        raise ApiError(400, "the body must be a JSON object")
    return validated(kind, values)


def validated(kind: type[Body], values: Mapping[str, Any]) -> Body:
    """The body of these values; raises `ApiError` that names the field, its value and what is allowed."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"][:1])) or "body"
        if first["type"] == "extra_forbidden":
            nested, known = len(first["loc"]) > 1, ", ".join(kind.model_fields)
            what = ".".join(map(str, first["loc"])) + " is not supported here"
            message = what if nested else f"{what}; the fields are {known}"
            raise ApiError(400, message, param=name) from error
        raise ApiError(
            400, f"{name} is {shortened(first['input'])}: {first['msg'].lower()}", param=name
        ) from error


def _conversation(messages: list[dict[str, Any]]) -> Conversation:
    rows = [_with_text(row, f"messages[{index}]") for index, row in enumerate(messages)]
    try:
        return Conversation.from_messages(rows)
    except CamelidError as error:
        raise ApiError(400, str(error), param="messages") from error


def _with_text(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A message whose content may be given in parts, as one text."""
    if row.get("role") == "developer":  # OpenAI's newer name
        row = {**row, "role": "system"}
    content = row.get("content")
    if not isinstance(content, list):
        return row
    try:
        parts = [Part.model_validate(part) for part in content]
    except ValidationError as error:
        raise ApiError(
            400, f"{where}.content has a part that is not text; this model reads only text", param="messages"
        ) from error
    return {**row, "content": "".join(part.text for part in parts)}


def _bias(given: dict[str, float]) -> dict[int, float]:
    try:
        return {int(token): value for token, value in given.items()}
    except ValueError as error:
        raise ApiError(400, "logit_bias must have token ids as keys", param="logit_bias") from error
