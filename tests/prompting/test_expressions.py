"""The parser of expressions gives Python's values, exactly, and refuses all else."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.prompting.expressions import decimal, value_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("48/2", 24),
        ("16-3-4", 9),
        ("2*(3+4)/5", Fraction(14, 5)),
        ("-2**2", -4),
        ("2**-1", Fraction(1, 2)),
        ("2^3^2", 512),
        ("(-2)**2", 4),
        ("1,000 * 3", 3000),
        ("$4 x 3", 12),
        ("4x3", 12),
        ("4 × 3 ÷ 2", 6),
        (".5 + 5.", Fraction(11, 2)),
        ("--3", 3),
        ("0.1 + 0.2", Fraction(3, 10)),
    ],
)
def test_values(text: str, value: int | Fraction) -> None:
    assert value_of(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "", "()", "2 3", "2 +",
        "(2", "2)", "1/0", "0**-1", "2(3)", "abs(3)", "x", "2 + x", "2x + 3", "1e5", "4!",
        "5%", "2//3",
        "9**9**9", "9**99999", "(9**1000)**1000", "4 ** 0.5", "(" * 400 + "1" + ")" * 400, "-" * 900 + "1",
        "1" * 1001,
        "__import__('os')", "1,00", "1_000", "٣+٤",
    ],
)  # fmt: skip
def test_all_else_has_no_value(text: str) -> None:
    assert value_of(text) is None


SUMS = st.recursive(
    st.integers(0, 999).map(str),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("-{}".format),
    ),
    max_leaves=12,
)


@given(SUMS)
def test_values_are_python_s(text: str) -> None:
    """Python computes the same text with exact fractions."""
    import re

    try:
        expected = eval(re.sub(r"\d+", r"Fraction(\g<0>)", text), {"Fraction": Fraction})
    except ZeroDivisionError:
        expected = None
    assert value_of(text) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(24), "24"),
        (Fraction(-1, 2), "-0.5"),
        (Fraction(10, 3), "3.333333333"),
        (Fraction(1, 3), "0.3333333333"),
        (Fraction(2, 3), "0.6666666667"),
        (Fraction(10**12 + 1, 2), "500000000000"),
        (Fraction(1, 10**12), "0"),
        (Fraction(5, 100), "0.05"),
    ],
)
def test_decimals(value: Fraction, text: str) -> None:
    assert decimal(value) == text
