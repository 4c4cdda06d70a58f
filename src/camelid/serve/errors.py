"""Refusals in the shape of OpenAI's API, `{"error": {"message", "type", "param", "code"}}`, or of
Anthropic's."""

from typing import Any

from starlette.responses import JSONResponse

from camelid.base.errors import CamelidError, WrongCall
from camelid.engine.worker import CLOSED
from camelid.lm.interface import PromptTooLong

ANTHROPIC_PATH = "/v1/messages"
RESPONSES_PATH = "/v1/responses"
ANTHROPIC_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """A request that is refused, with the HTTP status; `headers` go with the response."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    def as_dict(self, path: str = "") -> dict[str, Any]:
        """The body of the response to a request for this path."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        if path.startswith(ANTHROPIC_PATH):
            kind = ANTHROPIC_KINDS.get(self.status, kind.replace("server", "api"))
            return {"type": "error", "error": {"type": kind, "message": self.message}}
        kind = KINDS.get(self.status, kind)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def as_piece(self, path: str) -> dict[str, Any]:
        """The event of a stream for this path."""
        if path.startswith(RESPONSES_PATH):
            return {"type": "error", "code": self.code, "message": self.message, "param": self.param}
        return self.as_dict(path)

    def response(self, path: str) -> JSONResponse:
        """The whole response."""
        return JSONResponse(self.as_dict(path), self.status, self.headers)


def as_api_error(error: Exception) -> ApiError:
    """Any error as a refusal: 400 for what the caller can mend, else 500 with the engine's message."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PromptTooLong):
        return ApiError(400, str(error), code="context_length_exceeded")
    if isinstance(error, WrongCall):
        return ApiError(400, str(error))
    if str(error) == CLOSED:
        return ApiError(503, "the server ends, and could not finish this answer")
    if isinstance(error, CamelidError):
        return ApiError(500, str(error))
    return ApiError(500, f"the server failed: {type(error).__name__}; its log has more")
