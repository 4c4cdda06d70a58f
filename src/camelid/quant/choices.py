"""What a quantisation can be asked for, by name: no torch, so that recipes and flags can say it."""

from typing import Literal, get_args

Bits = Literal[2, 3, 4, 8]
Method = Literal["rtn", "gptq", "awq"]
METHODS: tuple[Method, ...] = get_args(Method)
ALL_LINEARS = ("layers.*_proj",)
"""Patterns of `model.surgery.select`: every linear of every layer, not the output projection."""
