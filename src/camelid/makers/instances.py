"""Inputs and outputs of an instruction, read out of a reply; the heuristics that drop them.

The rules are those of Self-Instruct's code (`prepare_for_finetuning.py`).
"""

import re
from collections.abc import Sequence

from camelid.makers.seeds import Instance

MOST = 5
"""Instances of one task."""
EXAMPLE = re.compile(r"(?:^|\n)\s*Example\s?\d*\.?:?[ \t]*\n?")
OUTPUT = re.compile(r"(?:^|\n)\s*Output\s?\d*\s?:")
LABEL = re.compile(r"(?:^|\n)\s*Class label:")


def input_first(reply: str, cut: bool) -> list[Instance]:
    """Instances of a reply of the form `Example 1 ... Output: ...`; without an input, `Output: ...`."""
    found = []
    for piece in EXAMPLE.split(reply) if EXAMPLE.search(reply) else [reply]:
        given, *outputs = OUTPUT.split(piece)
        if outputs:
            found.append(Instance(given.strip(), outputs[0].strip()))
    return found[:-1] if cut else found


def output_first(reply: str, cut: bool) -> list[Instance]:
    """Instances of a reply of the form `Class label: L` and the input below it."""
    found = []
    for piece in LABEL.split(reply)[1:]:
        label, _, given = piece.strip().partition("\n")
        found.append(Instance(given.strip(), label.strip()))
    return found[:-1] if cut else found


def kept(instances: Sequence[Instance]) -> tuple[list[Instance], str | None]:
    """The instances that can be used, at most five, and why there are none.

    One whose output is empty or equals its input, or that ends with a colon, is dropped; if two have the
    same input and different outputs, all are.
    """
    usable = [each for each in dict.fromkeys(instances) if _is_usable(each)]
    inputs = [each.input for each in usable if each.input]
    if len(set(inputs)) < len(inputs):
        return [], "one input with two outputs"
    if not usable:
        return [], "no usable instance" if instances else "no instance in the reply"
    return usable[:MOST], None


def _is_usable(instance: Instance) -> bool:
    given, output = instance.input.strip(), instance.output.strip()
    return bool(output) and given != output and not given.endswith(":") and not output.endswith(":")
