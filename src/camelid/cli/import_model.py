"""`camelid import`."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional


def import_model(
    file: Annotated[Path, Positional],
    out: Annotated[Path, Positional],
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    tokenizer: Path | None = None,
) -> None:
    """Converts a GGUF file, Meta's LLaMA folder or a llama2.c checkpoint into a model folder with its
    tokenizer.

    Args:
        file: a .gguf file (F32, F16, BF16, Q8_0 to Q2_K), a folder of consolidated.*.pth, or llama2.c's .bin
        out: the folder to write; it must be empty or not exist
        dtype: precision of the written weights; float32 keeps quantised values exactly, others halve the size
        tokenizer: the tokenizer's folder or file, if it is neither in the file nor beside it
    """
    from camelid.formats.importing import import_model as import_file

    import_file(file, out, dtype, tokenizer)
