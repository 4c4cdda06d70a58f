"""Programs that models write: what is refused, and, where that is asked for, what runs and what is stopped.

No program runs unless CAMELID_TEST_PROGRAMS=1 is set, and none where CI is: the others are only read.
"""

import ast
import os

import pytest

from camelid.base.errors import WrongCall
from camelid.lm.scripted import ScriptedLM
from camelid.prompting import program_of_thoughts as module
from camelid.prompting.program_of_thoughts import Coded, program_of_thoughts, refusal, result_of
from camelid.tasks.item import Item

runs = pytest.mark.skipif(
    os.environ.get("CAMELID_TEST_PROGRAMS") != "1" or "CI" in os.environ,
    reason="runs programs; set CAMELID_TEST_PROGRAMS=1, outside CI",
)
SHOWN = Coded("A pen costs 2. What do 3 cost?", "price = 2\nans = price * 3")


def test_nothing_runs_unless_it_is_permitted() -> None:
    with pytest.raises(WrongCall, match="run=True"):
        program_of_thoughts([SHOWN])


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import os", "import os"),
        ("import math, os", "import math"),
        ("import math as m", "import math"),
        ("from os import system", "from os"),
        ("from math import __loader__", "from math"),
        ("from math import *", "from math"),
        ("().__class__", ".__class__"),
        ("(1).real", ".real"),
        ("'{0.a}'.format(1)", ".format"),
        ("(x for x in ()).gi_frame", ".gi_frame"),
        ("math.__dict__", ".__dict__"),
        ("math.sqrt.__self__", ".__self__"),
        ("_ = __builtins__", "__builtins__"),
        ("def __getattr__(): pass", "__getattr__"),
        ("f(__x=1)", "__x"),
        ("class A: pass", "ClassDef"),
        ("lambda: 1", "Lambda"),
        ("try:\n  pass\nexcept Exception: pass", "Try"),
        ("with open('a'): pass", "With"),
        ("f'{1}'", "JoinedStr"),
        ("global a", "Global"),
        ("del a", "Delete"),
        ("async def f(): pass", "AsyncFunctionDef"),
        ("def f():\n  yield 1", "Yield"),
        ("print(*[1])", "Starred"),
        ("(a := 1)", "NamedExpr"),
        ("@f\ndef g(): pass", "a decorator or annotation"),
        ("match 1:\n  case 1: pass", "Match"),
        ("raise ValueError", "Raise"),
        ("assert 1", "Assert"),
    ],
)
def test_what_reaches_out_is_refused(code: str, what: str) -> None:
    assert refusal(ast.parse(code)) == what


@pytest.mark.parametrize(
    "code",
    [
        "eggs = 16\nsold = eggs - 3 - 4\nans = sold * 2",
        "import math\nans = math.sqrt(2)",
        "ans = sum([1 for _ in range(3)])",
        "from math import floor\nans = floor(2.5)",
        "def solution():\n    total = 0\n    for i in range(3):\n        total += i\n    return total",
        "ages = {'a': 1}\nans = sum([age for age in ages.values()])",
    ],
)
def test_arithmetic_is_allowed(code: str) -> None:
    assert refusal(ast.parse(code)) is None


def test_the_prompt_and_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "result_of", lambda code: "18" if "9" in code else None)
    lm = ScriptedLM(["ans = 9 * 2\n\n\n\nmore", "ans ="])
    items = [Item("1", "How many?", "18"), Item("2", "How much?", "3")]
    attempts = program_of_thoughts([SHOWN], run=True)(lm, items)
    assert [attempt.text for attempt in attempts] == ["The answer is 18.", ""]
    assert attempts[0].completions == ("ans = 9 * 2",)
    assert lm.prompts[0] == (
        "# Question: A pen costs 2. What do 3 cost?\n# Python code, "
        "the result is ans\nprice = 2\nans = price * 3\n\n"
        "# Question: How many?\n# Python code, the result is ans\n"
    )


@runs
@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("eggs = 16\nans = (eggs - 3 - 4) * 2", "18"),
        ("ans = 7 / 2", "3.5"),
        ("ans = 6 / 2", "3"),
        ("import math\nanswer = math.floor(2.5)", "2"),
        ("from math import ceil\nresult = ceil(2.5)", "3"),
        ("def solution():\n    return sum([i for i in range(4)])", "6"),
        ("def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\nans = fib(10)", "55"),
        ("ans = [5]", "5"),
        ("ans = 'yes'", "yes"),
        ("ans = 1 / 0", None),
        ("ans = unknown", None),
        ("ans = (", None),
        ("other = 3", None),
        ("ans = None", None),
        ("ans = open('/etc/hostname').read()", None),
        ("import os\nans = os.getcwd()", None),
        ("ans = " + "(" * 5000 + "1" + ")" * 5000, None),
        ("ans = 10 ** 100000", None),
        ("def f(): f()\nf()\nans = 1", None),
        ("ans = [0] * 10 ** 10", None),
        ("ans = 1" + " " * 20_000, None),
    ],
)
def test_programs_run_in_the_limited_process(code: str, result: str | None) -> None:
    assert result_of(code) == result


@runs
@pytest.mark.parametrize("code", ["while True: pass", "ans = 9 ** 9 ** 9"])
def test_programs_are_stopped(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(module, "MOST_SECONDS", 1)
    assert result_of(code) is None
    assert result_of("ans = 1") == "1"
