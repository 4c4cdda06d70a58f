"""Which API key goes to which server: a key in the environment is sent only to the address that it is for.

OPENAI_API_KEY is for OPENAI_BASE_URL where that is set, and otherwise for https://api.openai.com;
CAMELID_API_KEY is for every other server. No key leaves the machine unencrypted.
"""

import os
from ipaddress import ip_address

import httpx

from camelid.base.errors import WrongCall

OPENAI = "https://api.openai.com/v1"
KEY_HELP = (
    "set CAMELID_API_KEY, or pass api_key=... in Python; OPENAI_API_KEY is sent only to OPENAI_BASE_URL, or "
    f"where that is not set to {OPENAI}, and no key is sent over plain http except to this machine"
)


def key_for(url: httpx.URL, given: str | None) -> str | None:
    """The key to send to this server, or None.

    given: a key passed for this server. Raises `WrongCall` if it would be sent unencrypted to another
    machine, and for a key that cannot stand in a header.
    """
    if not is_private(url):
        if given or url.userinfo:
            raise WrongCall(
                f"{shown(url)}: a key or password would be sent unencrypted; use https, or leave it out"
            )
        return None
    if given:
        return _checked("api_key", given)
    if url.userinfo:
        return None  # name and password in the URL are what this server asks for
    names = ["OPENAI_API_KEY"] if _is_openai(url) else []
    for name in [*names, "CAMELID_API_KEY"]:
        if key := os.environ.get(name, "").strip():
            return _checked(name, key)
    return None


def is_private(url: httpx.URL) -> bool:
    """Whether nobody on the way can read what is sent: https, or http that stays on this machine."""
    return url.scheme == "https" or is_loopback(url)


def is_loopback(url: httpx.URL) -> bool:
    """Whether the host is this machine."""
    try:
        return ip_address(url.host).is_loopback
    except ValueError:
        return url.host.rstrip(".").lower() == "localhost"


def shown(url: httpx.URL) -> str:
    """The URL for messages and results: without name, password and query."""
    return str(url.copy_with(username=None, password=None, query=None, fragment=None)).rstrip("/")


def _is_openai(url: httpx.URL) -> bool:
    """Whether this is the server that OPENAI_API_KEY is for: the same scheme, host and port."""
    base = os.environ.get("OPENAI_BASE_URL")
    if not base:
        return url.scheme == "https" and _port(url) == 443 and url.host.lower() == httpx.URL(OPENAI).host
    try:
        meant = httpx.URL(base.strip())
    except httpx.InvalidURL:
        return False
    return (url.scheme, url.host.lower(), _port(url)) == (meant.scheme, meant.host.lower(), _port(meant))


def _port(url: httpx.URL) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme)


def _checked(name: str, key: str) -> str:
    key = key.strip()
    if not key.isascii() or not key.isprintable():
        raise WrongCall(f"{name} holds characters that an HTTP header cannot carry; copy the key again")
    return key
