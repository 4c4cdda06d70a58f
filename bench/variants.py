"""Trains the rows of docs/lineage.md's comparison and prints them as a table: python bench/variants.py STORIES...

STORIES: files or folders of text. Every row is `camelid pretrain recipes/lineage/pretrain-stories-1m.yaml` with the flags below, once for
each seed; a feed-forward without a gate gets 3/2 of the width, so that all have as many weights. Intervals are Student's
95 % ones over the seeds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BASE = Path(__file__).parents[1] / "recipes" / "lineage" / "pretrain-stories-1m.yaml"
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""The 97.5 % quantile of Student's distribution, by the number of seeds."""
UNGATED = ["--model.feed-forward-width", "528"]
ROWS = {
    "LLaMA: RMSNorm, SwiGLU, rotary, one after the other": [],
    "LayerNorm": ["--model.norm", "layer"],
    "GELU": ["--model.feed-forward", "gelu", *UNGATED],
    "ReLU": ["--model.feed-forward", "relu", *UNGATED],
    "learned positions": ["--model.positions", "learned"],
    "relative positions": ["--model.positions", "relative"],
    "parallel blocks": ["--model.parallel", "true"],
    "deep: 8 layers of width 88": [
        *("--model.num-layers", "8", "--model.hidden-size", "88", "--model.feed-forward-width", "256")
    ],
    "wide: 2 layers of width 184": [
        *("--model.num-layers", "2", "--model.hidden-size", "184", "--model.feed-forward-width", "480")
    ],
}


def camelid(*arguments: object) -> None:
    command = [sys.executable, "-m", "camelid", *map(str, arguments)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def trained(out: Path, data: list[object], seed: int, flags: list[str]) -> tuple[float, float, int]:
    """Bits per byte of the held-out text, tokens a second, parameters."""
    camelid("pretrain", BASE, "--out", out, *data, "--seed", seed, *flags)
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    speed = statistics.median(
        record["tokens_per_second"] for record in records if "tokens_per_second" in record
    )
    from camelid.model.checkpoint import read_spec

    return records[-1]["validation_bits_per_byte"], speed, read_spec(out / "model").parameter_count()


def interval(values: list[float]) -> float:
    """Half of the 95 % interval of the mean."""
    return STUDENT[len(values)] * statistics.stdev(values) / len(values) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stories", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=3, choices=STUDENT)
    arguments = parser.parse_args()
    print("| row | parameters | bits a byte | beside LLaMA, same seeds | tokens/s |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        vocabulary = Path(scratch) / "tokenizer"
        train: list[object] = ["--data.train", *arguments.stories]
        camelid("tokenizer", "--out", vocabulary, *train, "--data.skip-bad-rows", "--vocab-size", 2048)
        data = [*train, "--tokenizer", vocabulary]
        base: list[float] = []
        for number, (row, flags) in enumerate(ROWS.items()):
            runs = [
                trained(Path(scratch) / f"{number}-{seed}", data, seed, flags)
                for seed in range(arguments.seeds)
            ]
            losses, speeds, sizes = (list(column) for column in zip(*runs, strict=True))
            base = base or losses
            apart = [loss - other for loss, other in zip(losses, base, strict=True)]
            mean, beside = statistics.mean(losses), statistics.mean(apart)
            text = "-" if not number else f"{beside:+.3f} ± {interval(apart):.3f}"
            own = f"{mean:.3f} ± {interval(losses):.3f}"
            print(f"| {row} | {sizes[0]:,} | {own} | {text} | {statistics.median(speeds):,.0f} |", flush=True)


if __name__ == "__main__":
    main()
