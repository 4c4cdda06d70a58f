"""What quantising costs and keeps: python bench/quantised.py MODEL CALIBRATION HELD_OUT

CALIBRATION and HELD_OUT: files of text, the second not seen by any method. Each row is one `camelid quantize`, its time and
the peak resident memory of its process, then perplexity a token and bits a byte of HELD_OUT (windows of the context that overlap by half;
`camelid.infer.perplexity`), and new tokens a second of one greedy sequence of 128 in the engine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def command(*words: object) -> tuple[float, float]:
    """Seconds and peak megabytes of a camelid command."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "camelid", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"camelid {' '.join(map(str, words))} failed")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def measured(folder: Path, text: Path, tokens: int) -> dict[str, float]:
    """Perplexity, bits a byte and tokens a second, in a process of its own."""
    own = [sys.executable, __file__, str(folder), "-", str(text), "--measure", "--tokens", str(tokens)]
    done = subprocess.run(own, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder: Path, text: Path, tokens: int) -> None:
    import torch

    from camelid.data.corpus import Corpus
    from camelid.infer.engine import Engine
    from camelid.infer.perplexity import perplexity

    engine = Engine.load(folder, dtype=torch.bfloat16)
    whole = "\n\n".join(each for each, _ in Corpus(text))
    found = perplexity(engine, [engine.tokenizer.decode(engine.encode(whole)[:tokens])])
    engine.generate(["Once upon a time"], temperature=0, max_new_tokens=8)
    speeds = []
    for _ in range(3):
        began = time.perf_counter()
        said = engine.generate(["Once upon a time"], temperature=0, max_new_tokens=128)
        speeds.append(len(said[0][0].tokens) / (time.perf_counter() - began))
    print(json.dumps({"perplexity": found.perplexity, "bits": found.bits_per_byte, "speed": max(speeds)}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--bits", nargs="+", type=int, default=[4, 3], choices=(2, 3, 4, 8))
    parser.add_argument("--groups", nargs="+", type=int, default=[64])
    parser.add_argument(
        "--methods", nargs="+", default=["rtn", "gptq", "awq"], choices=("rtn", "gptq", "awq")
    )
    parser.add_argument("--tokens", type=int, default=16384, help="of the held-out text")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.model, arguments.held_out, arguments.tokens)
        return
    print("| method | bits | group | seconds | peak MB | MB | perplexity | bits a byte | tokens/s |")
    print("|---|---|---|---|---|---|---|---|---|")

    def row(name: str, bits: object, group: object, cost: str, folder: Path) -> None:
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e6
        found = measured(folder, arguments.held_out, arguments.tokens)
        text = "{perplexity:.3f} | {bits:.4f} | {speed:.0f}".format(**found)
        print(f"| {name} | {bits} | {group} | {cost} | {size:.1f} | {text} |", flush=True)

    row("as it is", "-", "-", "- | -", arguments.model)
    with tempfile.TemporaryDirectory() as scratch:
        for bits in arguments.bits:
            for group in arguments.groups:
                for method in arguments.methods:
                    out = Path(scratch) / f"{method}-{bits}-{group}"
                    words = [
                        "quantize",
                        arguments.model,
                        out,
                        "--bits",
                        bits,
                        "--group-size",
                        group,
                        "--method",
                        method,
                    ]
                    if method != "rtn":
                        words += ["--calibration", arguments.calibration]
                    seconds, peak = command(*words)
                    row(method, bits, group, f"{seconds:.0f} | {peak:,.0f}", out)


if __name__ == "__main__":
    main()
