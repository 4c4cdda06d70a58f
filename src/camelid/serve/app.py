"""The server: OpenAI's and Anthropic's endpoints over the engines of some models."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from camelid.engine.encoding import check_ids
from camelid.serve.asking import unless_gone
from camelid.serve.bodies import (
    Asking,
    ChatBody,
    CompletionBody,
    DetokenizeBody,
    Named,
    TokenizeBody,
    read_body,
)
from camelid.serve.chat import chat_response, chat_stream
from camelid.serve.completions import completion_response, completion_stream
from camelid.serve.connection import Patience
from camelid.serve.errors import ApiError, as_api_error
from camelid.serve.guard import Guard, Rules
from camelid.serve.messages import count_response, messages_response, messages_stream
from camelid.serve.messages_bodies import CountBody, MessagesBody
from camelid.serve.metrics import Counting, Metrics
from camelid.serve.models import Models
from camelid.serve.page import content_policy, page
from camelid.serve.request_log import RequestLog, note
from camelid.serve.responses import responses_response, responses_stream
from camelid.serve.responses_bodies import ResponsesBody

logger = logging.getLogger(__name__)
Asked = TypeVar("Asked", bound=Asking)
AnyBody = TypeVar("AnyBody", bound=Named)
Handler = Callable[[Request], Awaitable[Response]]
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
WITH_DONE = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Whose streams end with `[DONE]`."""
CLOSE = {"Connection": "close"}
MOST_BODY_BYTES = 8 << 20


def make_app(
    models: Models,
    rules: Rules | None = None,
    *,
    log_prompts: bool = False,
    body_seconds: float = Patience.body,
) -> ASGIApp:
    """The ASGI application of some models; by default for this machine alone, without a key.

    log_prompts: whether the line of a request has its body; body_seconds: in which that must have come.
    """
    api = Api(models, log_prompts, body_seconds)
    routes = [
        Route("/", _refusing(api.page)),
        Route("/health", _refusing(api.health)),
        Route("/v1/models", _refusing(api.list_models)),
        Route("/v1/models/{name:path}", _refusing(api.one_model)),
        Route("/v1/chat/completions", _refusing(api.chat), methods=["POST"]),
        Route("/v1/completions", _refusing(api.complete), methods=["POST"]),
        Route("/v1/messages", _refusing(api.messages), methods=["POST"]),
        Route("/v1/messages/count_tokens", _refusing(api.count_tokens), methods=["POST"]),
        Route("/v1/responses", _refusing(api.responses), methods=["POST"]),
        Route("/tokenize", _refusing(api.tokenize), methods=["POST"]),
        Route("/detokenize", _refusing(api.detokenize), methods=["POST"]),
        Route("/metrics", _refusing(api.metrics)),
        Route("/openapi.json", _refusing(api.describe)),
    ]
    api.counts = Metrics(models, [route.path for route in routes])
    app = Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_found})
    return RequestLog(Counting(Guard(app, rules or Rules()), api.counts))


class Api:
    """The endpoints."""

    counts: Metrics

    def __init__(self, models: Models, log_prompts: bool, body_seconds: float) -> None:
        self.models, self._log_prompts, self._body_seconds = models, log_prompts, body_seconds

    async def metrics(self, _: Request) -> Response:
        return Response(self.counts.text(), media_type=METRICS_TYPE)

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def list_models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": self.models.cards()})

    async def one_model(self, request: Request) -> Response:
        return JSONResponse(self.models.card(request.path_params["name"]))

    async def describe(self, _: Request) -> Response:
        from camelid.serve.description import description  # its libraries would slow the start

        return JSONResponse(description())

    async def page(self, _: Request) -> Response:
        return HTMLResponse(page(), headers={"Content-Security-Policy": content_policy()})

    async def tokenize(self, request: Request) -> Response:
        body = await self._body(request, TokenizeBody)
        async with self.models.use(body.model) as served:
            ids = await asyncio.to_thread(served.encode, body.prompt())
            context = served.engine.context_length
        return JSONResponse({"tokens": ids, "count": len(ids), "context_length": context})

    async def detokenize(self, request: Request) -> Response:
        body = await self._body(request, DetokenizeBody)
        async with self.models.use(body.model) as served:
            engine = served.engine
            if body.tokens:
                check_ids(tuple(body.tokens), engine.model.spec, room=0)
            return JSONResponse({"content": engine.tokenizer.decode(body.tokens, skip_special_tokens=False)})

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, ChatBody, chat_response, chat_stream)

    async def complete(self, request: Request) -> Response:
        return await self._answer(request, CompletionBody, completion_response, completion_stream)

    async def messages(self, request: Request) -> Response:
        return await self._answer(request, MessagesBody, messages_response, messages_stream)

    async def count_tokens(self, request: Request) -> Response:
        body = await self._body(request, CountBody)
        async with self.models.use(body.model) as served:
            return JSONResponse(await count_response(served, body))

    async def responses(self, request: Request) -> Response:
        return await self._answer(request, ResponsesBody, responses_response, responses_stream)

    async def _answer(
        self,
        request: Request,
        kind: type[Asked],
        whole: Callable[..., Any],
        streamed: Callable[..., Any],
    ) -> Response:
        """A whole response, or a stream, whose first event is only sent once the request is known to be
        right."""
        body, path = await self._body(request, kind), request.url.path
        answer = (
            _streamed(self.models, body, streamed, path) if body.stream else _whole(self.models, body, whole)
        )
        return await unless_gone(request, asyncio.create_task(answer))

    async def _body(self, request: Request, kind: type[AnyBody]) -> AnyBody:
        """The body, as far and as long as it is allowed to go."""
        raw = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                async for chunk in request.stream():
                    raw += chunk
                    if len(raw) > MOST_BODY_BYTES:
                        raise ApiError(
                            413, f"the body has more than {MOST_BODY_BYTES >> 20} MB", headers=CLOSE
                        )
        except TimeoutError as error:
            raise ApiError(
                408, f"the body took more than {self._body_seconds:g} seconds", headers=CLOSE
            ) from error
        except ClientDisconnect as error:
            raise ApiError(499, "the client closed the connection") from error
        if self._log_prompts:
            note(body=raw.decode(errors="replace"))
        return read_body(kind, bytes(raw))


async def _whole(models: Models, body: Named, whole: Callable[..., Any]) -> Response:
    async with models.use(body.model) as served:
        return JSONResponse(await whole(served, body))


async def _streamed(models: Models, body: Named, streamed: Callable[..., Any], path: str) -> Response:
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(models.use(body.model))
        pieces = await streamed(served, body)
        return _EventStream(_events(pieces, path), stack.pop_all())


class _EventStream(StreamingResponse):
    """Server-sent events, whose model stays loaded until they end."""

    def __init__(self, events: AsyncIterator[str], used: AsyncExitStack) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self.used = used

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.used:
            await super().__call__(scope, receive, send)


async def _events(pieces: AsyncIterator[dict[str, Any] | None], path: str) -> AsyncIterator[str]:
    """Server-sent events, named by the type of the piece if it has one; a comment keeps the connection
    open while the engine has nothing yet."""
    async with aclosing(pieces) as open_pieces:  # type: ignore[type-var]
        try:
            async for piece in open_pieces:
                yield ": still working\n\n" if piece is None else _event(piece)
        except Exception as error:
            refused = as_api_error(error)
            if refused.status == 500:
                logger.exception("a stream failed")
            yield _event(refused.as_piece(path))
        if path in WITH_DONE:
            yield "data: [DONE]\n\n"


def _event(piece: dict[str, Any]) -> str:
    named = f"event: {piece['type']}\n" if "type" in piece else ""
    return f"{named}data: {json.dumps(piece, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _refusing(handler: Handler) -> Handler:
    """The handler, with every error in the API's own shape."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:
            refused = as_api_error(error)
            if refused.status == 500:
                logger.exception("a request failed")
            return refused.response(request.url.path)

    return handle


async def _not_found(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    words = "there is no such path" if status == 404 else "this path does not take the method"
    return ApiError(status, f"{request.method} {request.url.path}: {words}").response(request.url.path)
