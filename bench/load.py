"""Loading a checkpoint folder beside reading its bytes, time and peak memory: python bench/load.py

Every measurement is a process of its own with the files in the page cache: `read` reads all bytes of the
safetensors file through a buffer of 16 MB, `camelid` and `transformers` load the folder in the dtype that it
stores and touch every page of every weight, so that nothing is left to be mapped later. Times are medians
without the imports; memory is the peak resident size, mapped pages included, above that after the imports
(Linux only).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PRESETS = ("smollm2-360m", "gpt2-medium", "t5-base", "t5-v1.1-base", "qwen2.5-0.5b", "qwen3-0.6b")
IMPORTS = {
    "read": "import torch",
    "camelid": "import camelid.formats.load, camelid.formats.hugging_face.checkpoint, "
    "camelid.formats.hugging_face.families",
    "transformers": "import transformers; transformers.AutoModelForCausalLM, "
    "transformers.AutoModelForSeq2SeqLM",
}
LOADS = {
    "read": "buffer = bytearray(1 << 24); file = path.open('rb', buffering=0)\nwhile file.readinto(buffer): "
    "pass\nweights = []",
    "camelid": "model = camelid.formats.load.load_model(path.parent, torch.bfloat16); "
    "weights = model.parameters()",
    "transformers": (
        "kind = transformers.AutoModelForSeq2SeqLM if 'is_encoder_decoder' in (path.parent / "
        "'config.json').read_text() "
        "else transformers.AutoModelForCausalLM; "
        "model = kind.from_pretrained(path.parent, dtype=torch.bfloat16); weights = model.parameters()"
    ),
}
MEASURE = """
import json, re, sys, time, torch
from pathlib import Path
{imports}
path = Path(sys.argv[1])
def peak():
    return int(re.search("VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
before, begin = peak(), time.perf_counter()
{load}
for weight in weights:
    storage = weight.detach().untyped_storage()
    torch.tensor([], dtype=torch.uint8).set_(storage)[::4096].sum()
seconds = time.perf_counter() - begin
print(json.dumps([seconds, peak() - before]))
"""


def measured(loader: str, path: Path) -> tuple[float, int]:
    """Seconds and bytes of one load in a fresh process."""
    script = MEASURE.format(imports=IMPORTS[loader], load=LOADS[loader])
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], check=True, capture_output=True, text=True
    )
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def write(preset: str, folder: Path) -> Path:
    """A folder of random bfloat16 weights."""
    import torch

    from camelid.formats.hugging_face.checkpoint import save_checkpoint
    from camelid.model.presets import preset as spec_of
    from camelid.model.transformer import Transformer

    folder.mkdir()
    save_checkpoint(
        folder, Transformer(spec_of(preset)).initialize(0).to(torch.bfloat16), dtype=torch.bfloat16
    )
    return folder / "model.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("presets", nargs="*", default=PRESETS)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(
        "| model | MB | read, s | camelid, s | ratio | transformers, "
        "s | camelid's peak / size | transformers' |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for preset in arguments.presets:
        with tempfile.TemporaryDirectory() as scratch:
            path = write(preset, Path(scratch) / "model")
            size = path.stat().st_size
            rounds = [{loader: measured(loader, path) for loader in LOADS} for _ in range(arguments.repeats)]
            seconds = {loader: statistics.median(each[loader][0] for each in rounds) for loader in LOADS}
            peak = {loader: max(each[loader][1] for each in rounds) / size for loader in LOADS}
            ratio = seconds["camelid"] / seconds["read"]
            print(
                f"| {preset} | {size / 1e6:,.0f} | {seconds['read']:.2f} | {seconds['camelid']:.2f} | "
                f"{ratio:.2f} | "
                f"{seconds['transformers']:.2f} | {peak['camelid']:.2f} | {peak['transformers']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
