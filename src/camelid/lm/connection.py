"""HTTP to an OpenAI-compatible server: waiting where it is busy, and one clear error where it cannot
answer."""

import email.utils
import json
import logging
import math
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx

from camelid.base.errors import CamelidError, WrongCall
from camelid.lm.keys import KEY_HELP, is_loopback, key_for, shown
from camelid.lm.sse import events

logger = logging.getLogger(__name__)

BUSY = frozenset({408, 409, 425, 429})
"""Statuses, with all of 5xx, after which the same request may succeed."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before the first repetition, doubled for each further one up to the second value."""
CONNECT = 30.0
"""Seconds to wait for a connection."""
BUSY_ERRORS = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,
)
"""Refused and broken connections, as while a server restarts. A timeout of the answer is not among them."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server: at most `retries` repetitions, none of them after more than
    `longest_wait` seconds, and `timeout` seconds for a response."""

    retries: int = 6
    longest_wait: float = 120.0
    timeout: float = 600.0

    def __post_init__(self) -> None:
        if self.retries < 0 or not self.longest_wait >= 0 or not self.timeout > 0:
            raise WrongCall(
                f"retries is {self.retries}, longest_wait {self.longest_wait} and timeout {self.timeout}; "
                "they must be at least 0, at least 0, and above 0"
            )

    def pause(self, attempt: int, requested: float | None) -> float:
        """Seconds before repetition `attempt`, counted from 0; `requested` by the server, or growing, with
        jitter.

        Never less than requested; jitter keeps clients that were refused together from returning together.
        """
        if requested:  # 0 may come with every refusal
            return requested + random.uniform(0, min(1.0, 0.1 * requested))
        most = min(FIRST_PAUSE * 2.0**attempt, LONGEST_PAUSE, self.longest_wait)
        return random.uniform(most / 2, most)


class StatusError(CamelidError):
    """A response with an error status, for callers that know another way to ask."""

    def __init__(self, message: str, status: int, text: str) -> None:
        super().__init__(message)
        self.status, self.text = status, text


class Connection:
    """A server's address, its key and how long to wait for it."""

    def __init__(self, url: str, api_key: str | None, patience: Patience) -> None:
        parsed = _parsed_url(url)
        self._key, self._patience = key_for(parsed, api_key), patience
        path = parsed.path.rstrip("/").removesuffix("/v1") + "/v1"
        self._base = parsed.copy_with(path=path, query=None, fragment=None)
        self._query = parsed.params
        self._thread = threading.local()
        self.url = shown(self._base)
        """The address in messages and results, without a password."""

    def stop_waiting(self, stop: threading.Event) -> None:
        """From now on this thread stops waiting for a busy server, with `CamelidError`, when `stop` is
        set."""
        self._thread.stop = stop

    def _wait(self, seconds: float) -> None:
        stop: threading.Event = getattr(self._thread, "stop", None) or threading.Event()
        if stop.wait(seconds):
            raise CamelidError(f"{self.url}: stopped while the server was busy")

    @cached_property
    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        local = is_loopback(self._base)
        # A proxy from the environment must not see what stays on this machine.
        mounts = {f"all://{self._base.host}": None} if local else None
        return httpx.Client(
            base_url=self._base,
            headers=headers,
            params=self._query,
            timeout=httpx.Timeout(self._patience.timeout, connect=min(self._patience.timeout, CONNECT)),
            mounts=mounts,
            verify=not (local and self._base.scheme == "http"),  # no certificates to read then
            limits=httpx.Limits(max_connections=None),
        )

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON of a response; raises `StatusError` for an error status, and `CamelidError` if the server
        cannot be reached, answers without JSON or reports an error."""
        with self._naming_errors():
            answer = self._send(method, path, body)
            try:
                text = answer.read().decode("utf-8", errors="replace")
            finally:
                answer.close()
        return self.parsed(text)

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[Any]:
        """The JSON of each event of a stream, until `[DONE]`, which comes as None; errors as in `ask`.

        A server that ignores `stream` and answers with one JSON object gives that object.
        """
        with self._naming_errors():
            answer = self._send("POST", path, body, stream=True)
            try:
                for event in events(answer.iter_bytes()):
                    if event.data.strip() == "[DONE]":
                        yield None
                        return
                    content = self.parsed(event.data, is_event=event.is_event)
                    if event.type == "error":
                        raise CamelidError(f"{self.url}: {event.data[:500]}")
                    yield content
            finally:
                answer.close()

    def parsed(self, text: str, is_event: bool = True) -> Any:
        """The JSON of a response or of an event; raises `CamelidError` if it is not JSON, or an error."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            if not is_event:
                raise CamelidError(
                    f"{self.url}: the stream ended before the completion did: {text[:200]}"
                ) from error
            raise CamelidError(
                f"{self.url} did not return JSON: {text[:200]!r}; is it an OpenAI-compatible server?"
            ) from error
        if isinstance(content, dict) and content.get("error"):  # `"error": null` is not an error
            raise CamelidError(f"{self.url}: {json.dumps(content['error'], ensure_ascii=False)[:500]}")
        return content

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, stream: bool = False
    ) -> httpx.Response:
        """The response, once the server is not busy; of a stream its body is not read yet."""
        for attempt in range(self._patience.retries + 1):
            requested = None
            try:
                request = self._client.build_request(method, path, json=body)
                answer = self._client.send(request, stream=True)
                if answer.is_success and stream:
                    return answer
                answer.read()
                if not _is_busy(answer):
                    self._check(answer)
                    return answer
                requested, reason = _requested(answer), f"HTTP {answer.status_code}"
            except BUSY_ERRORS as error:
                if attempt == self._patience.retries or _is_final(error):
                    raise
                answer, reason = None, str(error) or type(error).__name__
            if requested is not None and requested > self._patience.longest_wait:
                raise CamelidError(
                    f"{self.url}: {reason}: the server asks to wait {requested:.0f} seconds, and the longest "
                    f"wait is {self._patience.longest_wait:.0f}; come back later, or raise --longest-wait"
                )
            if attempt < self._patience.retries:
                pause = self._patience.pause(attempt, requested)
                if pause >= 1:
                    logger.info(f"{self.url}: {reason}; asking again in {pause:.0f} s")
                self._wait(pause)
        assert answer is not None
        self._check(answer, f" after {self._patience.retries} repetitions")
        return answer

    def _check(self, answer: httpx.Response, when: str = "") -> None:
        if answer.is_success:
            return
        text = answer.text
        reason = " ".join(text.split())[:500] or answer.reason_phrase or "no reason given"
        if answer.is_redirect:
            reason = f"redirected to {answer.headers.get('location', 'nowhere')}; give that address instead"
        elif answer.status_code in (401, 403):
            reason += f"; {KEY_HELP}" if self._key is None else "; the API key was refused"
        raise StatusError(
            f"{shown(answer.url)}: HTTP {answer.status_code}{when}: {reason}", answer.status_code, text
        )

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise CamelidError(
                f"{self.url}: no connection within {CONNECT:g} seconds; is the address right?"
            ) from error
        except httpx.TimeoutException as error:
            raise CamelidError(
                f"{self.url}: no answer within {self._patience.timeout:g} seconds; raise --timeout, or ask "
                "for fewer tokens"
            ) from error
        except httpx.HTTPError as error:
            raise CamelidError(
                f"{self.url}: {str(error) or type(error).__name__}; is the server running?"
            ) from error


def _parsed_url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url.strip())
    except (httpx.InvalidURL, UnicodeError) as error:
        raise WrongCall(f"{url!r} is not a URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise WrongCall(
            f"{shown(parsed)!r} is not the URL of a server; it must be like http://127.0.0.1:8000"
        )
    return parsed


def _is_busy(answer: httpx.Response) -> bool:
    """Whether to ask again: a busy status, unless the server says that asking again is useless."""
    if answer.headers.get("x-should-retry", "").lower() == "false" or "insufficient_quota" in answer.text:
        return False
    status = _inner_status(answer) if answer.is_success else answer.status_code
    return status in BUSY or status >= 500


def _is_final(error: BaseException) -> bool:
    """Whether asking again is useless: no such host, or a certificate that does not hold."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _inner_status(answer: httpx.Response) -> int:
    """The status inside a response with status 200, as OpenRouter reports what its providers say."""
    if '"error"' not in answer.text:
        return answer.status_code
    try:
        code = json.loads(answer.text)["error"]["code"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return answer.status_code
    return code if isinstance(code, int) else answer.status_code


def _requested(answer: httpx.Response) -> float | None:
    """The seconds that the server asks to wait (RFC 9110, section 10.2.3), or None if it gives none.

    A number, a date, or in OpenAI's header milliseconds.
    """
    milliseconds = _number(answer.headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = answer.headers.get("retry-after")
    if (seconds := _number(text)) is not None or not text:
        return seconds
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
