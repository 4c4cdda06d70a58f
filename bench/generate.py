"""Greedy generation with a key-value cache: `camelid.engine.engine.Engine` beside `transformers.generate`.

The model is a checkpoint folder (`--model`), else SmolLM2-135M-Instruct imported from its GGUF beside the
repository. Both compute in bfloat16 and in float32; transformers with its default cache, with a static cache,
and with a static cache and a compiled forward pass, and the fastest of the three counts. Every contender runs
in a process of its own, on the same prompts of 32 tokens and to exactly 64 (quick: 24) new tokens; a run is
timed from ids to ids (ours to text as well), the first two are not counted (they compile), and the median of
the others is reported, in new tokens a second over the whole batch.
"""

import argparse
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROMPT, BATCHES, REPEATS = 32, (1, 16), 3
SHARED = Path(__file__).resolve().parents[2] / "shared" / "weights"
GGUF = SHARED / "smollm2-135m-instruct-q4_1" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def prompts(batch: int, vocab_size: int) -> list[list[int]]:
    """Others at every call, so that no cache of prefixes holds them."""
    import torch

    generator = torch.Generator().manual_seed(next(CALLS))
    return torch.randint(100, vocab_size, (batch, PROMPT), generator=generator).tolist()


def camelid(model: Path, new_tokens: int, dtype: str, cache: str) -> Callable[[int], None]:
    import torch

    from camelid.engine.engine import Engine
    from camelid.engine.generation import Generation
    from camelid.lm.sampling import Sampling

    engine = Engine.load(model, dtype=getattr(torch, dtype), device="cpu")
    engine.tokenizer.stop_ids = frozenset()
    sampling = Sampling(max_new_tokens=new_tokens)

    def run(batch: int) -> None:
        asked = prompts(batch, engine.model.spec.vocab_size)
        generations = [Generation(ids, sampling, 0, new_tokens, engine.tokenizer) for ids in asked]
        for _ in engine.run(generations):
            pass
        assert all(len(generation.tokens) == new_tokens for generation in generations)

    return run


def transformers(model: Path, new_tokens: int, dtype: str, cache: str) -> Callable[[int], None]:
    import torch
    from transformers import LlamaForCausalLM

    network = LlamaForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
    network.generation_config.eos_token_id = None
    network.generation_config.pad_token_id = 0
    if cache == "compiled":
        network.forward = torch.compile(network.forward, dynamic=False)
    settings = {} if cache == "default" else {"cache_implementation": "static"}

    def run(batch: int) -> None:
        ids = torch.tensor(prompts(batch, network.config.vocab_size))
        answers = network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            do_sample=False,
            **settings,
        )
        assert answers.shape[1] == PROMPT + new_tokens

    return run


CALLS = itertools.count()
CONTENDERS = {"camelid": camelid, "transformers": transformers}
CACHES = {"camelid": ("default",), "transformers": ("default", "static", "compiled")}
DTYPES = ("bfloat16", "float32")
WARM_UP = 2


def measure(contender: str, dtype: str, cache: str, model: Path, new_tokens: int, threads: int) -> None:
    """New tokens a second at every batch size, as one JSON object on standard output."""
    import torch

    torch.set_num_threads(threads)
    run = CONTENDERS[contender](model, new_tokens, dtype, cache)
    speeds = {}
    for batch in BATCHES:
        times = []
        for _ in range(WARM_UP + REPEATS):
            start = time.perf_counter()
            run(batch)
            times.append(time.perf_counter() - start)
        speeds[batch] = batch * new_tokens / statistics.median(times[WARM_UP:])
    print(json.dumps(speeds))


def speeds_of(
    contender: str, dtype: str, cache: str, model: Path, new_tokens: int, threads: int
) -> dict[str, float]:
    """What `measure` finds in a process of its own; no speeds if it fails, as compiling may."""
    options = ["--contender", contender, "--dtype", dtype, "--cache", cache, "--model", str(model)]
    options += ["--new-tokens", str(new_tokens), "--threads", str(threads)]
    done = subprocess.run(
        [sys.executable, __file__, *options], check=False, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        print(f"{contender}, {dtype}, {cache} cache: failed", file=sys.stderr)
        return {}
    speeds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return speeds


def compare(model: Path, new_tokens: int, threads: int) -> Iterator[dict[str, object]]:
    """A row for each dtype and batch size: ours beside the fastest cache of transformers."""
    for dtype in DTYPES:
        [ours] = (
            speeds_of("camelid", dtype, cache, model, new_tokens, threads) for cache in CACHES["camelid"]
        )
        peers = {
            cache: speeds_of("transformers", dtype, cache, model, new_tokens, threads)
            for cache in CACHES["transformers"]
        }
        for batch in map(str, BATCHES):
            present = {cache: speeds[batch] for cache, speeds in peers.items() if batch in speeds}
            best = max(present, key=lambda cache: present[cache])
            yield {
                "name": f"generate {dtype} batch {batch}",
                "ours": round(ours[batch], 1),
                "peer": round(present[best], 1),
                "peer_name": f"transformers, {best} cache",
                "unit": "new tokens/s",
                "ratio": round(ours[batch] / present[best], 2),
                "all": {cache: round(speed, 1) for cache, speed in present.items()},
            }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="24 new tokens instead of 64")
    parser.add_argument("--model", type=Path, help="a checkpoint folder with its tokenizer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", choices=DTYPES, help=argparse.SUPPRESS)
    parser.add_argument("--cache", choices=CACHES["transformers"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    new_tokens = arguments.new_tokens or (24 if arguments.quick else 64)
    if arguments.contender:
        measure(
            arguments.contender,
            arguments.dtype,
            arguments.cache,
            arguments.model,
            new_tokens,
            arguments.threads,
        )
        return
    if arguments.model is None and not GGUF.is_file():
        sys.exit(f"{GGUF} is not here: give a checkpoint folder with --model")
    with tempfile.TemporaryDirectory() as scratch:
        model = arguments.model
        if model is None:
            from camelid.formats.importing import import_model

            model = Path(scratch) / "smollm2"
            print(f"importing {GGUF.name}", file=sys.stderr)
            with contextlib.redirect_stdout(sys.stderr):
                import_model(GGUF, model, dtype="bfloat16")
        for row in compare(model, new_tokens, arguments.threads):
            text = "{name}: {ours} {unit}, {peer_name} {peer}: {ratio} times"
            print(json.dumps(row) if arguments.json else text.format(**row), flush=True)


if __name__ == "__main__":
    main()
