"""The environment of chat templates, as transformers documents it: its filters, functions and blocks."""

import json
from datetime import datetime
from functools import cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Macro

from camelid.text.sandbox import Sandbox

# Unicode noncharacters, "intended for process-internal use" (Unicode 16, section 23.7): they mark spans
# during rendering and are removed before the text is used.
TRAINED, UNTRAINED = "\ufdd0", "\ufdd1"


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}`: puts marks around the assistant's words."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Macro) -> str:
        return f"{TRAINED}{caller()}{UNTRAINED}"


@cache
def environment() -> Sandbox:
    """The one environment that all templates are compiled in."""
    made = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"])
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = _raise_exception
    return made


def written_time(moment: str, form: str) -> str:
    """An ISO date, with or without a time, in the given form; a template's `strftime_now`."""
    return datetime.fromisoformat(moment).strftime(form)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Plain JSON; Jinja's own filter escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)
