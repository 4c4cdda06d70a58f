"""The OpenAPI description of the server, made of the types that its bodies are read with."""

from typing import Any

from pydantic.json_schema import models_json_schema

from camelid.base.version import __version__
from camelid.serve.bodies import ChatBody, CompletionBody, DetokenizeBody, Named, TokenizeBody
from camelid.serve.messages_bodies import CountBody, MessagesBody
from camelid.serve.responses_bodies import ResponsesBody

Shape = dict[str, Any]
BODIES: dict[str, tuple[type[Named], str]] = {
    "/v1/chat/completions": (ChatBody, "Answers a conversation"),
    "/v1/completions": (CompletionBody, "Continues prompts, and scores them with echo and logprobs"),
    "/v1/messages": (MessagesBody, "Answers a conversation in Anthropic's form"),
    "/v1/messages/count_tokens": (CountBody, "Counts the tokens of a conversation in Anthropic's form"),
    "/v1/responses": (ResponsesBody, "Answers in the form of OpenAI's newer API, without state"),
    "/tokenize": (TokenizeBody, "The token ids of a text or conversation"),
    "/detokenize": (DetokenizeBody, "The text of token ids"),
}
PAGES = {
    "/v1/models": "The models, and whether each is loaded",
    "/health": "Whether the server runs",
    "/metrics": "Counts for Prometheus",
    "/openapi.json": "This description",
}
REFUSALS = {
    "400": "The request is wrong; the message names the field, its value and what is allowed",
    "401": "A key is needed",
    "403": "The Host or the page's Origin is not allowed",
    "404": "There is no such model",
    "408": "The body took too long",
    "413": "The body is too large",
    "429": "The server is busy; Retry-After has the seconds to wait",
    "500": "The answer failed",
    "503": "The server ends",
}


def description() -> Shape:
    """The whole description."""
    _, schemas = models_json_schema(
        [(body, "validation") for body, _ in BODIES.values()], ref_template="#/components/schemas/{model}"
    )
    model = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    one = _operation("One model", "404") | {"parameters": [model]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Camelid", "version": __version__},
        "paths": {
            **{path: {"get": _operation(about)} for path, about in PAGES.items()},
            "/v1/models/{name}": {"get": one},
            **{path: {"post": _asking(body, about)} for path, (body, about) in BODIES.items()},
        },
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _asking(body: type[Named], about: str) -> Shape:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}
    return _operation(about, *REFUSALS) | {"requestBody": {"required": True, "content": content}}


def _operation(about: str, *statuses: str) -> Shape:
    refused = {status: {"description": REFUSALS[status]} for status in (*statuses, "403")}
    return {"summary": about, "responses": {"200": {"description": "The answer"}, **refused}}
