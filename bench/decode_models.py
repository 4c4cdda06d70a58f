"""The models of `bench/decode.py`: the same weights as a checkpoint, as `camelid quantize` writes it, and as
GGUF."""

import contextlib
import sys
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "weights"
GGUF = SHARED / "smollm2-135m-instruct-q4_1" / "SmolLM2-135M-Instruct.Q4_1.gguf"
SHAPES = {"1.1b": "tinyllama-1.1b", "135m": "smollm-135m"}
FILES = {"bf16": "bfloat16", "q4_0": "q4_0", "q4_k": "q4_k"}


def prepare(shape: str, folder: Path, needed: set[str]) -> dict[str, Path]:
    """Paths of a shape's models by name, `needed` among `checkpoint`, `4 bits`, `bf16`, `q4_0` and `q4_k`.

    What `folder` has already is used again.
    """
    paths = {"checkpoint": folder / f"{shape}-checkpoint", "4 bits": folder / f"{shape}-4-bits"}
    paths |= {kind: folder / f"{shape}-{kind}.gguf" for kind in FILES}
    with contextlib.redirect_stdout(sys.stderr):
        if not paths["checkpoint"].exists():
            _write_checkpoint(shape, paths["checkpoint"])
        if "4 bits" in needed and not paths["4 bits"].exists():
            _quantize(paths["checkpoint"], paths["4 bits"])
        for kind in FILES.keys() & needed:
            if not paths[kind].exists():
                _export(paths["checkpoint"], paths[kind], FILES[kind])
    return paths


def _write_checkpoint(shape: str, out: Path) -> None:
    """SmolLM2's published weights, or for the larger shape random ones of the usual size."""
    import torch

    from camelid.base.atomic import atomic_folder
    from camelid.formats.hugging_face.checkpoint import save_checkpoint
    from camelid.formats.importing import import_model
    from camelid.model.presets import PRESETS
    from camelid.model.transformer import Transformer
    from camelid.text.tokenizer import train_tokenizer

    if shape == "135m" and GGUF.is_file():
        import_model(GGUF, out, dtype="bfloat16")
        return
    if shape == "135m":
        print(f"{GGUF} is missing: random weights instead of SmolLM2's", file=sys.stderr)
    model = Transformer(PRESETS[SHAPES[shape]]()).initialize(0).to(torch.bfloat16)
    with atomic_folder(out) as folder:
        save_checkpoint(folder, model, dtype=torch.bfloat16)
        train_tokenizer(["a word of text"] * 8, 270).save(folder)


def _quantize(model: Path, out: Path) -> None:
    """As `camelid quantize` does by default, the output projection to 8 bits as llama.cpp has it."""
    from camelid.recipes.quantize import QuantizeRecipe
    from camelid.workflows.quantize import quantize

    quantize(QuantizeRecipe(model=str(model), out=out, bits=4, head_bits=8))


def _export(model: Path, out: Path, dtype: str) -> None:
    from camelid.formats.exporting import export

    export(str(model), out, "gguf", dtype, False)
