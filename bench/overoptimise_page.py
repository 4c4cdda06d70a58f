"""The tables of docs/preferences_measured.md, from the numbers that bench/overoptimise.py measured."""

from collections.abc import Callable, Mapping
from typing import Any

from instruction_page import fill_page
from reasoning_page import DOCS, table

DATA, PAGE = DOCS / "preferences", DOCS / "preferences_measured.md"
Row = Mapping[str, Any]
PARAMETERS = {"stories-full-0": "656,000", "student-rows-0": "238,000"}
NAMES = {"best_of_n": "best of n", "conditional": "markers", "dpo": "DPO", "grpo": "GRPO", "ppo": "PPO"}


def points(row: Row) -> str:
    """A difference of shares in points, with its interval."""
    value, low, high = (100 * row[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def ranged(row: Row, digits: int = 3) -> str:
    """A value with its interval."""
    value, low, high = (row[key] for key in ("value", "low", "high"))
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def highest(row: Row) -> str:
    """The nats at which a form is highest, where that was measured."""
    if row["peak"] is None:
        return "none"
    return f"{row['peak']:.2g}" if row["peak"] <= row["furthest"] else "beyond"


def policies(found: Row) -> str:
    """Gains at equal KL; the curves; the constants."""
    levels = list(found["levels"]["best_of_n"])
    equal = [
        [NAMES[name], *(points(row[level]) if level in row else "" for level in levels)]
        for name, row in found["levels"].items()
    ]
    curves = []
    for name, seeds in found["curves"].items():
        for at in range(len(seeds[0])):
            cells = [NAMES[name], f"{seeds[0][at]['updates']}"]
            for key, digits in (("kl", 2), ("reward", 2), ("gold", 3)):
                cells.append(", ".join(f"{curve[at][key]:.{digits}f}" for curve in seeds))
            curves.append(cells)
    forms = [
        [
            NAMES[name],
            ranged(row["alpha"]),
            ranged(row["beta"]),
            f"{row['explained']:.2f}",
            highest(row),
            f"{row['furthest']:.1f}",
        ]
        for name, row in found["forms"].items()
    ]
    first = table(["gain at KL of, nats", *levels], equal)
    head = ["method", "n or updates", "KL, nats", "proxy's reward", "rules followed"]
    constants = ["method", "alpha", "beta", "R²", "highest at, nats", "measured up to, nats"]
    return f"{first}\n\n{table(head, curves)}\n\n{table(constants, forms)}"


def rewards(found: Row) -> str:
    """Reward models by size and data."""
    body = []
    for name, row in found["rows"].items():
        base, count = name.split()
        constants = [ranged(row["form"][name]) for name in ("alpha", "beta")]
        body.append([PARAMETERS[base], count, ranged(row["accuracy"]), points(row["gain"]), *constants])
    return table(
        ["parameters", "orders compared", "accuracy", "gain of the best of 32, points", "alpha", "beta"], body
    )


TABLES: Mapping[str, Callable[[Row], str]] = {"policies": policies, "rewards": rewards}


def write_tables(tables: Mapping[str, Callable[[Any], str]] = TABLES) -> None:
    """Writes tables into the page."""
    fill_page(PAGE, DATA, tables)
