"""Jinja's sandbox with limits on time and output: templates are foreign code that comes with every model.

Loop iterations, calls and characters are counted. All errors are `CamelidError`.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import count
from typing import Any

import jinja2
from jinja2 import nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from camelid.base.errors import CamelidError

MOST_CHARACTERS = 2**24
"""Limit for a rendered text; the longest contexts hold a third of it."""
MOST_STEPS = 2**22
"""Limit for loop iterations and calls, a few seconds. A turn takes a few, at worst a few per other turn."""
STEPS = "steps of this rendering"
"""A variable name that no template can spell or set; as a filter name, it counts loop iterations."""


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment for templates that cannot access anything outside and always terminate."""

    # Intercepted operators are also not constant-folded at compile time.
    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.filters[STEPS] = _counted

    def read(self, source: str) -> jinja2.Template:
        """The compiled template of a source text."""
        try:
            tree = self.parse(source)
            for loop in list(tree.find_all(nodes.For)):
                rounds = nodes.Filter(loop.iter, STEPS, [], [], None, None, lineno=loop.lineno)
                loop.iter = rounds.set_environment(self)
            return self.from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            raise CamelidError(f"the chat template, line {error.lineno}: {error.message}") from error
        except Exception as error:  # such as unbounded nesting or invalid constants
            raise CamelidError(f"the chat template cannot be compiled: {_reason(error)}") from error

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - jinja2's names
        """Calls an object for the template, and counts the call."""
        _step(__context)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """A product, a power or a formatted string (`*`, `**`, `%`), bounded in size."""
        for value, times in ((left, right), (right, left)):
            if operator == "*" and isinstance(value, Sized) and isinstance(times, int):
                _bound(len(value) * times)
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            _bound(left.bit_length() * right)
        return super().call_binop(context, operator, left, right)


def render(template: jinja2.Template, variables: Mapping[str, Any]) -> str:
    """The template rendered with these variables."""
    text = io.StringIO()
    try:
        for piece in template.generate({**variables, STEPS: count(1)}):
            text.write(piece)
            _bound(text.tell())
    except CamelidError:
        raise
    except Exception as error:  # a template can raise anything
        raise CamelidError(f"the chat template rejects the conversation: {_reason(error)}") from error
    return text.getvalue()


@pass_context
def _counted(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        _step(context)
        yield value


def _step(context: Context) -> None:
    if next(context[STEPS]) > MOST_STEPS:
        raise CamelidError(f"the chat template takes more than {MOST_STEPS:,} steps; it is damaged")


def _bound(size: int) -> None:
    if size > MOST_CHARACTERS:
        raise CamelidError(
            f"the chat template writes more than {MOST_CHARACTERS:,} characters; it is damaged"
        )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
