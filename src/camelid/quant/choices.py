"""The options of quantisation by name; imports no torch, so that recipes and flags can use them."""

from typing import Literal, get_args

Bits = Literal[2, 3, 4, 8]
Method = Literal["rtn", "gptq", "awq"]
METHODS: tuple[Method, ...] = get_args(Method)
ALL_LINEARS = ("layers.*_proj",)
"""Patterns for `model.surgery.select`: all linears of all layers, without the output projection."""
