"""Jinja's sandbox with limits on time and size: templates are foreign code that comes with every model.

Loop iterations, calls and the characters that operations produce are counted, and each result is bounded
before it is computed (`bounds`). Templates that are not our own are also rendered in another process, whose
memory and time the system limits (`base.limited_process`). All errors are `CamelidError`.
"""

import functools
import io
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.filters import FILTERS
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from camelid.base.errors import CamelidError
from camelid.base.limited_process import call
from camelid.text import bounds

MOST_CHARACTERS = 2**24
"""Limit for a rendered text and for the result of every operation; long contexts hold a third of it."""
MOST_STEPS = 2**22
"""Limit for loop iterations and calls, a few seconds. A turn takes a few, at worst a few per other turn."""
MOST_WORK = 2**31
"""Limit for the characters and elements in the results of all operations together, about a second."""
STEPS, CONCATENATION = "steps of this rendering", "operator ~"
"""Names of filters that no template can spell: they count loop iterations, and bound `~`."""
WHAT = "the chat template"


@dataclass
class Budget:
    """What one rendering may still do."""

    characters: int
    steps: int
    work: int

    def step(self) -> None:
        """Counts a loop iteration or a call."""
        self.steps -= 1
        if self.steps < 0:
            raise CamelidError(f"{WHAT} takes more than {_limits()[1]:,} steps; it is damaged")

    def bound(self, size: int) -> None:
        """Counts a result of this size."""
        self.work -= size
        if size > self.characters:
            raise CamelidError(f"{WHAT} writes more than {self.characters:,} characters; it is damaged")
        if self.work < 0:
            raise CamelidError(f"{WHAT} copies more than {MOST_WORK:,} characters; it is damaged")


_budget: ContextVar[Budget] = ContextVar("the budget of the rendering in progress")
_most: ContextVar[tuple[int, int]] = ContextVar("limits for characters and steps")


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment for templates that cannot access anything outside and always terminate.

    Options, filters and globals are pickled for the process that renders: name classes and functions of
    modules.
    """

    # Intercepted operators are also not constant-folded at compile time.
    intercepted_binops = frozenset({"+", "-", "*", "**", "%"})

    concat = staticmethod(lambda pieces: _concatenated(list(pieces)))

    def __init__(self, **options: Any) -> None:
        super().__init__(finalize=_spelled, **options)
        self.options = options
        self.filters = _BoundedFilters(self.filters)
        self.filters[STEPS], self.filters[CONCATENATION] = _counted, _concatenated
        del self.globals["lipsum"]  # any amount of text from one call
        self._own_globals = dict(self.globals)

    def read(self, source: str, *, trusted: bool = False) -> "Template":
        """The template of a source text, checked; trusted: one of our own, rendered in this process."""
        return Template(self, source, trusted)

    def compiled(self, source: str) -> jinja2.Template:
        """The template with its loops and concatenations counted."""
        try:
            return self.from_string(_Counting(self).visit(self.parse(source)))
        except jinja2.TemplateSyntaxError as error:
            raise CamelidError(f"{WHAT}, line {error.lineno}: {error.message}") from error
        except MemoryError:
            raise
        except Exception as error:  # such as unbounded nesting or invalid constants
            raise CamelidError(f"{WHAT} cannot be compiled: {_reason(error)}") from error

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - jinja2's names
        """Calls an object for the template; counts the call and bounds its result."""
        budget = _current()
        budget.step()
        method = _plain(__obj)
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str | bytes | int) and (bound := bounds.METHODS.get(method.__name__)):
            budget.bound(_apply(bound, budget, owner, *args, **kwargs))
        result = super().call(__context, __obj, *args, **kwargs)
        budget.bound(bounds.length(result))
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The result of an operator, bounded in size."""
        budget = _current()
        budget.bound(bounds.binary(operator, left, right, budget.characters))
        return super().call_binop(context, operator, left, right)

    def __reduce__(self) -> tuple[Any, ...]:
        filters = {
            name: _plain(own) for name, own in self.filters.items() if _plain(own) is not FILTERS.get(name)
        }
        for name in (STEPS, CONCATENATION):
            del filters[name]
        given = {name: own for name, own in self.globals.items() if self._own_globals.get(name) is not own}
        return _rebuilt, (self.options, filters, given)


class Template:
    """A template of a `Sandbox`; raises `CamelidError` if it cannot be compiled."""

    def __init__(self, environment: Sandbox, source: str, trusted: bool) -> None:
        self._source, self._trusted = source, trusted
        self._environment = pickle.dumps(environment)
        self._run(_checked, self._environment, source)

    def render(self, variables: Mapping[str, Any]) -> str:
        """The template rendered with these variables."""
        return self._run(_rendered, self._environment, self._source, dict(variables), *_limits())

    def _run(self, function: Callable[..., str], *arguments: Any) -> str:
        if not self._trusted:
            return call(function, *arguments, what=WHAT)
        return function(*arguments)


def render(template: Template, variables: Mapping[str, Any]) -> str:
    """The template rendered with these variables."""
    return template.render(variables)


def _limits() -> tuple[int, int]:
    """The limits for characters and steps; the process that renders gets those of its caller."""
    return _most.get((MOST_CHARACTERS, MOST_STEPS))


@functools.lru_cache(maxsize=16)
def _template(environment: bytes, source: str) -> jinja2.Template:
    sandbox: Sandbox = pickle.loads(environment)
    return sandbox.compiled(source)


def _checked(environment: bytes, source: str) -> str:
    _template(environment, source)
    return ""


def _rendered(environment: bytes, source: str, variables: dict[str, Any], characters: int, steps: int) -> str:
    template = _template(environment, source)
    text = io.StringIO()
    limits, own = _most.set((characters, steps)), _budget.set(Budget(characters, steps, MOST_WORK))
    try:
        for piece in template.generate(variables):
            text.write(piece)
            if text.tell() > characters:
                _current().bound(text.tell())
    except (CamelidError, MemoryError):
        raise
    except Exception as error:  # a template can raise anything
        raise CamelidError(f"{WHAT} rejects the conversation: {_reason(error)}") from error
    finally:
        _budget.reset(own)
        _most.reset(limits)
    return text.getvalue()


def _current() -> Budget:
    """The budget of this rendering; of a constant that is computed while compiling, one for itself."""
    return _budget.get(None) or Budget(*_limits(), MOST_WORK)


class _Counting(NodeTransformer):
    """Puts the counting filters around what loops iterate over and in place of `~`."""

    def __init__(self, environment: Sandbox) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2's names
        node = self.generic_visit(node)  # type: ignore[assignment]
        node.iter = self._filtered(node.iter, STEPS)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        node = self.generic_visit(node)  # type: ignore[assignment]
        return self._filtered(nodes.List(node.nodes, lineno=node.lineno), CONCATENATION)

    def _filtered(self, node: nodes.Node, name: str) -> nodes.Filter:
        filtered = nodes.Filter(cast(nodes.Expr, node), name, [], [], None, None, lineno=node.lineno)
        filtered.set_environment(self._environment)
        return filtered


class _BoundedFilters(dict[str, Callable[..., Any]]):
    """Filters by name, each wrapped to count its calls and bound its result."""

    def __init__(self, filters: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__()
        for name, function in filters.items():
            self[name] = function

    def __setitem__(self, name: str, function: Callable[..., Any]) -> None:
        super().__setitem__(name, _bounded(name, function))


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    bound, first = bounds.FILTERS.get(name), int(hasattr(function, "jinja_pass_arg"))

    @functools.wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        budget = _current()
        budget.step()
        if bound is not None:
            budget.bound(_apply(bound, budget, *args[first:], **kwargs))
        result = function(*args, **kwargs)
        budget.bound(bounds.length(result))
        return result

    return bounded


def _apply(bound: bounds.Bound, budget: Budget, *args: Any, **kwargs: Any) -> int:
    """The bound of a result; wrong operands are left to the operation, which says what is wrong with them."""
    try:
        return bound(*args, most=budget.characters, **kwargs)
    except (AttributeError, TypeError, ValueError):
        return 1


def _rebuilt(options: dict[str, Any], filters: Mapping[str, Any], given: Mapping[str, Any]) -> Sandbox:
    environment = Sandbox(**options)
    for name, function in filters.items():
        environment.filters[name] = function
    environment.globals.update(given)
    return environment


def _plain(function: Any) -> Any:
    return getattr(function, "__wrapped__", function)


def _counted(values: Iterable[Any]) -> Iterator[Any]:
    budget = _current()
    for value in values:
        budget.step()
        yield value


def _concatenated(values: list[Any]) -> str:
    budget = _current()
    budget.bound(bounds.size(values, budget.characters))
    return "".join(map(str, values))


def _spelled(value: Any) -> Any:
    """A value that is written, bounded; text and numbers, the usual ones, are bounded already."""
    if not isinstance(value, str | int | float | Undefined | None):
        budget = _current()
        budget.bound(bounds.size(value, budget.characters))
    return value


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
