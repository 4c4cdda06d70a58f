"""Quantised models: made by `quantize_model`, kept in the public GPTQ or AWQ layout, read by `load_quantized`."""

from camelid.quant.quantize import quantize_model
from camelid.quant.storage import load_quantized, save_quantized

__all__ = ["load_quantized", "quantize_model", "save_quantized"]
