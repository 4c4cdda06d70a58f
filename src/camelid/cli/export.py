"""`camelid export`."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional


def export(
    model: Annotated[str, Positional],
    out: Annotated[Path, Positional],
    to: Literal["hf", "gguf", "gptq", "awq"] = "gguf",
    dtype: Literal["float32", "float16", "bfloat16", "q8_0", "q4_0", "q4_k"] = "float16",
    verify: bool = False,
    base: str | None = None,
) -> None:
    """Writes a model in another tool's format: weights, tokenizer, chat template; or an adapter as GGUF.

    Args:
        model: a checkpoint folder or a name on the hub; gguf needs an architecture like LLaMA, GPT-2 or T5,
            gptq and awq need a quantised model; or the folder of an adapter, for gguf
        out: the file (gguf) or folder to write; it must not exist
        to: gguf for llama.cpp; hf for transformers (a quantised model is dequantised);
            gptq or awq for vLLM and transformers, with the model's own quantised weights
        dtype: precision of the matrices, or in gptq and awq of everything that is not quantised; q8_0, q4_0
            and q4_k are llama.cpp's block formats, only for gguf; awq takes only float16
        verify: load the result in llama.cpp or transformers and compare tokens, chat template, stop tokens,
            logits and greedy text with the model; on a difference, fail and write nothing
        base: an adapter's base model, if it is not the one that the adapter names
    """
    from camelid.workflows.gated import export as export_model

    export_model(model, out, to, dtype, verify, base)
