"""Refusals in the shape of OpenAI's API: `{"error": {"message", "type", "param", "code"}}`."""

from typing import Any

from starlette.responses import JSONResponse

from camelid.base.errors import CamelidError, WrongCall
from camelid.lm.interface import PromptTooLong

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

    def as_dict(self) -> dict[str, Any]:
        """The body of the response."""
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The whole response."""
        return JSONResponse(self.as_dict(), self.status, self.headers)


def as_api_error(error: Exception) -> ApiError:
    """Any error as a refusal: 400 for what the caller can mend, else 500 with the engine's message."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PromptTooLong):
        return ApiError(400, str(error), code="context_length_exceeded")
    if isinstance(error, WrongCall):
        return ApiError(400, str(error))
    if isinstance(error, CamelidError):
        return ApiError(500, str(error))
    return ApiError(500, f"the server failed: {type(error).__name__}; its log has more")
