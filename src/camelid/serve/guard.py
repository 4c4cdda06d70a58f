"""What stands before the endpoints: who may ask, how often, and from which pages.

A page on another site can send requests to this machine through its visitor's browser, also under a name of
its own that resolves to 127.0.0.1 (DNS rebinding). So the Host must be one of ours, and the Origin of a
browser's request the server's own or one that was allowed.
"""

import hashlib
import hmac
import ipaddress
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from camelid.serve.errors import ApiError
from camelid.serve.request_log import note

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN_PATHS = frozenset({"/", "/health"})
"""Without a key: the page, which asks for one, and the check of a load balancer."""
MOST_BUCKETS = 10_000
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ALLOWED_HEADERS = "authorization, content-type, x-api-key, anthropic-version"


def digest_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True)
class Rules:
    """Who may ask.

    hosts: names that a request may be addressed to, None for any; origins: pages of other sites that may ask;
    keys: digests of the keys by their names, none if no key is needed; most_requests: at a time, over all;
    most_of_one: at a time with one key, or from one address; rate: of these in a minute, as many at once.
    """

    hosts: frozenset[str] | None = LOCAL_NAMES
    origins: frozenset[str] = frozenset()
    keys: Mapping[str, str] | None = None
    most_requests: int = 256
    most_of_one: int = 64
    rate: int | None = None

    def check_host(self, headers: Headers) -> None:
        """Raises `ApiError` where the request is addressed to a name that is not the server's."""
        if len(headers.getlist("host")) > 1:
            raise ApiError(400, "the request has more than one Host")
        if self.hosts is not None and _host(headers.get("host", "")) not in self.hosts:
            raise ApiError(403, f"the Host {headers.get('host', '')[:80]!r} is not this server's")

    def check_origin(self, headers: Headers) -> str | None:
        """The allowed origin of a request from another site's page; raises `ApiError` at one not allowed."""
        origin = headers.get("origin")
        if origin is None or origin in self.origins:
            return origin
        if origin.partition("://")[2] == headers.get("host"):
            return None
        raise ApiError(403, f"pages of {origin[:80]} may not ask this server; allow it with --allow-origin")

    def check_key(self, headers: Headers) -> str | None:
        """The name of the request's key; raises `ApiError` 401 without a right one.

        Every key is compared in full, so that the time taken says nothing about them.
        """
        if self.keys is None:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        given = given.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        digest = digest_of(given) if given else ""
        right = [name for name, kept in self.keys.items() if hmac.compare_digest(kept, digest)]
        if not right:
            raise ApiError(
                401,
                "a key is needed: send Authorization: Bearer KEY, or x-api-key: KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return right[0]


class Guard:
    """The ASGI middleware that holds requests to the rules."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self.app, self.rules = app, rules
        self.running: Counter[str] = Counter()
        self._buckets: dict[str, Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, origin = Headers(scope=scope), None
        try:
            self.rules.check_host(headers)
            origin = self.rules.check_origin(headers)
            if scope["method"] == "OPTIONS" and origin:
                await _preflight()(scope, receive, _with_headers(send, origin))
                return
            who = None if scope["path"] in OPEN_PATHS else self.rules.check_key(headers)
            who = who or str((scope.get("client") or ("unknown",))[0])
            note(client=who)
            self._check_load(scope, who)
        except ApiError as error:
            await error.response(scope["path"])(scope, receive, _with_headers(send, origin))
            return
        self.running[who] += 1
        try:
            await self.app(scope, receive, _with_headers(send, origin))
        finally:
            self.running[who] -= 1
            self.running += Counter()  # forgets who has none running

    def _check_load(self, scope: Scope, who: str) -> None:
        if scope["method"] != "POST":
            return
        if self.running.total() >= self.rules.most_requests:
            raise _busy(f"{self.rules.most_requests} requests are being answered or wait")
        if self.running[who] >= self.rules.most_of_one:
            raise _busy(f"{self.rules.most_of_one} of your requests are being answered or wait")
        if self.rules.rate is not None:
            self._check_rate(who, self.rules.rate)

    def _check_rate(self, who: str, rate: int) -> None:
        now = time.monotonic()
        if len(self._buckets) >= MOST_BUCKETS:  # those that are full again need not be remembered
            self._buckets = {name: each for name, each in self._buckets.items() if not each.is_full(now)}
        wait = self._buckets.setdefault(who, Bucket(rate, now)).take(now)
        if wait:
            raise _busy(f"more than {rate} requests in a minute", math.ceil(wait))


class Bucket:
    """A bucket that holds a minute's requests, and fills again within a minute."""

    def __init__(self, rate: int, now: float) -> None:
        self._rate, self._left, self._at = rate, float(rate), now

    def take(self, now: float) -> float:
        """Takes one request out; the seconds to wait for if there is none."""
        self._left, self._at = self._filled(now), now
        if self._left < 1:
            return (1 - self._left) * 60 / self._rate
        self._left -= 1
        return 0.0

    def is_full(self, now: float) -> bool:
        """Whether it holds as many as at the beginning."""
        return self._filled(now) >= self._rate

    def _filled(self, now: float) -> float:
        return min(self._rate, self._left + (now - self._at) * self._rate / 60)


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def rules_for(host: str, keys: Mapping[str, str] | None, origins: Iterable[str], **limits: Any) -> Rules:
    """The rules of a server that listens on `host`: on this machine alone only its own names are taken."""
    return Rules(LOCAL_NAMES | {host} if is_local(host) else None, frozenset(origins), keys, **limits)


def _busy(why: str, seconds: int = 1) -> ApiError:
    when = "in a second" if seconds == 1 else f"in {seconds} seconds"
    headers = {"Retry-After": str(seconds)}
    return ApiError(429, f"{why}; try again {when}", code="server_busy", headers=headers)


def _host(value: str) -> str:
    """The name in a Host header, without its port; empty if it is none."""
    try:
        return urlsplit(f"//{value}").hostname or ""
    except ValueError:  # as for "["
        return ""


def _preflight() -> Response:
    headers = {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": ALLOWED_HEADERS,
        "Access-Control-Max-Age": "600",
    }
    return Response(status_code=204, headers=headers)


def _with_headers(send: Send, origin: str | None) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if origin:
                headers["Access-Control-Allow-Origin"] = origin
                headers["Vary"] = "Origin"
                headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        await send(message)

    return sending
