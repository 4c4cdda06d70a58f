"""`camelid export`."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


def export(
    model: Annotated[str, Positional],
    out: Annotated[Path, Positional, arg(metavar="OUT")],
    to: Literal["hf", "gguf", "gptq", "awq"] = "gguf",
    dtype: Literal["float32", "float16", "bfloat16", "q8_0", "q4_0", "q4_k"] = "float16",
    verify: bool = False,
) -> None:
    """Writes a model in a layout of other tools: weights, tokenizer, chat template.

    Args:
        model: a checkpoint folder or a name on the hub; for gguf of an architecture like LLaMA, GPT-2 or T5, for gptq and
            awq a quantised one
        out: the file (gguf) or folder to write; it must not exist
        to: gguf for llama.cpp, hf for transformers; a quantised folder becomes an ordinary one. gptq and awq are quantised
            folders for vLLM and transformers, with the codes that the model has
        dtype: of the matrices, in gptq and awq of all but the codes; q8_0, q4_0 and q4_k are llama.cpp's blocks, for gguf
            alone; awq takes float16 alone
        verify: load what was written in llama.cpp or transformers and compare tokens, template, stops, logits and greedy
            text with the model; a difference is an error, and nothing is written
    """
    from camelid.formats.exporting import export as export_model

    export_model(model, out, to, dtype, verify)
