"""The rows of docs/lineage.md's comparison: python bench/variants.py STORIES... for their losses, --speed for
their speeds.

STORIES: files or folders of text. Every row is `camelid pretrain recipes/lineage/pretrain-stories-1m.yaml`
with the flags that are printed, once for each seed; a feed-forward without a gate gets 3/2 of the width, so
that all have as many weights. Intervals are Student's 95 % ones over the seeds. Speeds are those of whole
compiled updates at twice the width and 3/2 of the layers, the rows taking turns; nothing else may run
meanwhile.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

BASE = Path(__file__).parents[1] / "recipes" / "lineage" / "pretrain-stories-1m.yaml"
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""The 97.5 % quantile of Student's distribution, by the number of seeds."""
ROWS = {
    "LLaMA: RMSNorm, SwiGLU, rotary, one after the other": "",
    "LayerNorm": "--model.norm layer",
    "GELU": "--model.feed-forward gelu --model.feed-forward-width 528",
    "ReLU": "--model.feed-forward relu --model.feed-forward-width 528",
    "learned positions": "--model.positions learned",
    "relative positions": "--model.positions relative",
    "parallel blocks": "--model.parallel true",
    "deep: 8 layers of width 88": (
        "--model.num-layers 8 --model.hidden-size 88 --model.feed-forward-width 256"
    ),
    "wide: 2 layers of width 184": "--model.num-layers 2 --model.hidden-size 184 --model.feed-forward-width "
    "480",
}


def camelid(*arguments: object) -> None:
    command = [sys.executable, "-m", "camelid", *map(str, arguments)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def trained(out: Path, data: list[object], seed: int, flags: str) -> tuple[float, int]:
    """Bits per byte of the held-out text, parameters."""
    from camelid.formats.hugging_face.checkpoint import read_spec

    camelid("pretrain", BASE, "--out", out, *data, "--seed", seed, *flags.split())
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    return last["validation_bits_per_byte"], read_spec(out / "model").parameter_count()


def interval(values: list[float]) -> float:
    """Half of the 95 % interval of the mean."""
    return STUDENT[len(values)] * statistics.stdev(values) / len(values) ** 0.5


def losses(stories: list[Path], names: list[str], seeds: int) -> None:
    """Prints the rows' held-out losses, each beside the first one's with the same seeds."""
    print("| row | flags | parameters | bits a byte | beside LLaMA, same seeds |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        vocabulary = Path(scratch) / "tokenizer"
        train: list[object] = ["--data.train", *stories]
        camelid("tokenizer", "--out", vocabulary, *train, "--data.skip-bad-rows", "--vocab-size", 2048)
        data = [*train, "--tokenizer", vocabulary]
        base: list[float] = []
        for number, name in enumerate(dict.fromkeys([next(iter(ROWS)), *names])):
            runs = [
                trained(Path(scratch) / f"{number}-{seed}", data, seed, ROWS[name]) for seed in range(seeds)
            ]
            bits = [loss for loss, _ in runs]
            base = base or bits
            apart = [loss - other for loss, other in zip(bits, base, strict=True)]
            beside = f"{statistics.mean(apart):+.3f} ± {interval(apart):.3f}" if number else "-"
            own = f"{statistics.mean(bits):.3f} ± {interval(bits):.3f}"
            print(f"| {name} | `{ROWS[name] or '-'}` | {runs[0][1]:,} | {own} | {beside} |", flush=True)


def speeds(names: list[str], rounds: int = 7, updates: int = 3) -> None:
    """Prints the rows' tokens a second, medians of `rounds` turns of `updates` updates each."""
    import torch

    from camelid.recipes.pretrain import PretrainRecipe
    from camelid.recipes.recipe import load_recipe
    from camelid.train.speed import timed_updates

    # Each row is compiled by itself; torch gives up after eight unless told otherwise.
    torch._dynamo.config.recompile_limit = 8 * len(ROWS)

    context, batch = 256, 8
    running = {}
    for name in dict.fromkeys([next(iter(ROWS)), *names]):
        flags = ROWS[name].split()
        overrides = dict(zip((flag.removeprefix("--") for flag in flags[::2]), flags[1::2], strict=True))
        spec = load_recipe(PretrainRecipe, BASE, overrides).model.spec(2048)
        spec = replace(
            spec,
            hidden_size=2 * spec.hidden_size,
            head_dim=2 * spec.head_dim,
            num_layers=3 * spec.num_layers // 2,
            feed_forward=replace(spec.feed_forward, width=2 * spec.feed_forward.width),
        )
        running[name] = timed_updates(spec, context, batch, compiled=True)
        list(islice(running[name], 2))
    times: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(rounds):
        for name, steps in running.items():
            times[name].append(statistics.median(islice(steps, updates)))
    print("| row | tokens/s | beside LLaMA, by turns |\n|---|---|---|")
    base = next(iter(times.values()))
    for name, own in times.items():
        ratio = statistics.median(other / each for other, each in zip(base, own, strict=True))
        print(f"| {name} | {context * batch / statistics.median(own):,.0f} | {ratio:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stories", nargs="*", type=Path)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", type=int, default=3, choices=STUDENT)
    parser.add_argument("--speed", action="store_true")
    arguments = parser.parse_args()
    if arguments.speed:
        speeds(arguments.rows)
    elif arguments.stories:
        losses(arguments.stories, arguments.rows, arguments.seeds)
    else:
        parser.error("name the text to train on, or --speed")


if __name__ == "__main__":
    main()
