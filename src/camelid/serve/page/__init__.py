"""The page to chat on: one HTML file with its style and script, which asks nothing of anywhere else."""

import base64
import hashlib
from functools import cache
from importlib.resources import files

SCRIPTS = ("markdown.js", "store.js", "client.js", "view.js", "main.js")


@cache
def page() -> str:
    """The page, put together from the files of this folder."""
    return _text("page.html").replace("/* style */", _style()).replace("/* script */", _script())


def content_policy() -> str:
    """The Content-Security-Policy: the page's own style and script, by their digests, and this server."""
    return (
        f"default-src 'none'; script-src '{_digest(_script())}'; style-src '{_digest(_style())}'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@cache
def _style() -> str:
    return _text("style.css")


@cache
def _script() -> str:
    return '"use strict";\n' + "\n".join(map(_text, SCRIPTS))


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")
