"""Program of thoughts: the model writes a program, a limited process runs it, and its result is the answer
(Chen et al., arXiv:2211.12588; PAL, Gao et al., arXiv:2211.10435).

    program = program_of_thoughts(exemplars, run=True)

What a model writes is foreign code, so nothing runs unless `run=True` says so. Two fences stand around it: a
program may only use the syntax and functions listed here, which reach neither files nor other modules nor
Python's internals, and it runs in a process without the caller's environment, with limits of memory and time.
"""

import ast
import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from camelid.base import limited_process
from camelid.base.errors import CamelidError, WrongCall
from camelid.lm.sampling import Sampling
from camelid.prompting.asking import Question
from camelid.prompting.attempt import Attempt, Program, Read, until
from camelid.prompting.steps import Steps, generated

MOST_SECONDS = 5
"""Processor time of one program, as in Chen et al."""
MOST_CHARACTERS = 10_000
"""Length of a program, and of a result that is text."""
RESULTS = ("ans", "answer", "result")
"""Names that hold the result, if no function returns it."""
FUNCTIONS = ("solution", "solver", "simple_math_problem")
"""Functions without parameters that return the result."""
PROGRAM = Sampling(max_new_tokens=400)
QUESTION = "# Question: {question}\n# Python code, the result is ans\n"
STOP = ("\n# Question:", "\n\n\n")

_SYNTAX = frozenset(
    [
        "Module",
        "Expr",
        "Assign",
        "AugAssign",
        "AnnAssign",
        "If",
        "For",
        "While",
        "Break",
        "Continue",
        "Pass",
        "FunctionDef",
        "arguments",
        "arg",
        "Return",
        "BinOp",
        "UnaryOp",
        "BoolOp",
        "Compare",
        "IfExp",
        "Call",
        "keyword",
        "Name",
        "Load",
        "Store",
        "Attribute",
        "Constant",
        "List",
        "Tuple",
        "Dict",
        "Set",
        "Subscript",
        "Slice",
        "ListComp",
        "SetComp",
        "DictComp",
        "GeneratorExp",
        "comprehension",
        "Import",
        "ImportFrom",
        "alias",
        "Add",
        "Sub",
        "Mult",
        "Div",
        "FloorDiv",
        "Mod",
        "Pow",
        "UAdd",
        "USub",
        "Not",
        "And",
        "Or",
        "Eq",
        "NotEq",
        "Lt",
        "LtE",
        "Gt",
        "GtE",
        "Is",
        "IsNot",
        "In",
        "NotIn",
    ]
)
_CALLS: Mapping[str, Any] = {
    function.__name__: function
    for function in (
        abs, all, any, bool, dict, divmod, enumerate, float, int, len, list, max, min, pow, range, reversed,
        round,
        set, sorted, str, sum, tuple, zip,
    )
} | {"print": lambda *values, **how: None}  # fmt: skip
_METHODS = frozenset(
    [
        "append",
        "extend",
        "insert",
        "pop",
        "remove",
        "index",
        "count",
        "sort",
        "reverse",
        "copy",
        "get",
        "items",
        "keys",
        "values",
        "update",
        "add",
        "union",
        "intersection",
        "difference",
    ]
)
_MATH = {name: value for name, value in vars(math).items() if not name.startswith("_")}


@dataclass(frozen=True)
class Coded:
    """An exemplar: a question and the program that answers it, which assigns its result to `ans`."""

    question: str
    code: str


def program_of_thoughts(
    exemplars: Sequence[Coded], *, run: bool = False, sampling: Sampling | None = None
) -> Program:
    """Asks for a program and runs it; a program without a result gives an empty reply, which is unparsed.

    run: permits that programs written by the model are run. Raises `WrongCall` without it.
    """
    if not run:
        raise WrongCall(
            "program_of_thoughts runs code that the model writes, in a limited process: "
            "permit it with run=True"
        )
    how = until(sampling or PROGRAM, STOP)
    shown = "".join(f"{QUESTION.format(question=each.question)}{each.code.strip()}\n\n" for each in exemplars)

    def ask(question: Question, read: Read | None) -> Steps[Attempt]:
        prompt = shown + QUESTION.format(question=question.question)
        reply = yield from generated(prompt, how)
        result = result_of(reply.text)
        return Attempt.of([prompt], [reply], "" if result is None else f"The answer is {result}.")

    settings = {
        "exemplars": [dataclasses.astuple(each) for each in exemplars],
        "wording": QUESTION,
        "sampling": dataclasses.asdict(how),
    }
    return Program("program_of_thoughts", 1, ask, settings, len(exemplars))


def result_of(code: str) -> str | None:
    """The result of a program, run in the limited process; None if it is refused, fails or takes too long."""
    if len(code) > MOST_CHARACTERS:
        return None
    try:
        return limited_process.call(_result, code, what="a program of a model", seconds=MOST_SECONDS) or None
    except CamelidError:
        return None


def refusal(tree: ast.AST) -> str | None:
    """What a program uses that it may not; None if it can be run."""
    for node in ast.walk(tree):
        kind = type(node).__name__
        if kind not in _SYNTAX:
            return kind
        names = [getattr(node, "id", ""), getattr(node, "arg", ""), getattr(node, "name", "")]
        hidden = [name for name in names if isinstance(name, str) and name.startswith("__")]
        if hidden:
            return hidden[0]
        if isinstance(node, ast.Attribute):
            of_math = isinstance(node.value, ast.Name) and node.value.id == "math" and node.attr in _MATH
            if not (of_math or node.attr in _METHODS):
                return f".{node.attr}"
        if isinstance(node, ast.FunctionDef) and (node.decorator_list or node.returns):
            return "a decorator or annotation"
        if isinstance(node, ast.Import) and [(each.name, each.asname) for each in node.names] != [
            ("math", None)
        ]:
            return f"import {node.names[0].name}"
        if isinstance(node, ast.ImportFrom):
            public = all(each.name in _MATH and each.asname is None for each in node.names)
            if node.module != "math" or node.level or not public:
                return f"from {node.module}"
    return None


def _result(code: str) -> str:
    """Runs a program in this process, which must be the limited one; an empty text if there is no result."""
    with contextlib.suppress(Exception):  # the model's mistakes: all of them count as no result
        tree = ast.parse(code)
        if refusal(tree) is None:
            names: dict[str, Any] = {**_MATH, "math": SimpleNamespace(**_MATH), "__builtins__": dict(_CALLS)}
            given = set(names)
            exec(compile(ast.fix_missing_locations(_WithoutImports().visit(tree)), "program", "exec"), names)
            found = [names[name] for name in RESULTS if name in names]
            found = [names[name]() for name in FUNCTIONS if name in names.keys() - given] or found
            return _shown(found[0]) if found else ""
    return ""


class _WithoutImports(ast.NodeTransformer):
    """Imports of math become `pass`: its functions are there already."""

    def visit_Import(self, node: ast.Import) -> ast.Pass:
        return ast.Pass()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.Pass:
        return ast.Pass()


def _shown(value: object) -> str:
    """A number, a truth value or a short text; whole numbers without ".0"."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, float):
        whole = math.isfinite(value) and value.is_integer() and abs(value) < 1e15
        return str(int(value)) if whole else str(value)
    if isinstance(value, bool | int | str):
        return str(value)[:MOST_CHARACTERS]
    return ""
