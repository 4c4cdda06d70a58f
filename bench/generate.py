"""Greedy generation with a key-value cache: `camelid.engine.engine.Engine` beside `transformers.generate`, in bfloat16.

The model is a checkpoint folder (`--model`), else SmolLM2-135M-Instruct imported from its GGUF beside the repository.
Every contender runs in a process of its own, on the same prompts of 32 tokens and to exactly 64 (quick: 24) new tokens; a
run is timed from ids to ids (ours to text as well), the first one is not counted, and the median of the others is
reported, in new tokens a second over the whole batch.
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
from collections.abc import Callable
from pathlib import Path

PROMPT, BATCHES, REPEATS = 32, (1, 16), 3
SHARED = Path(__file__).resolve().parents[2] / "shared" / "weights"
GGUF = SHARED / "smollm2-135m-instruct-q4_1" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def prompts(batch: int, vocab_size: int) -> list[list[int]]:
    """Others at every call, so that no cache of prefixes holds them."""
    import torch

    generator = torch.Generator().manual_seed(next(CALLS))
    return torch.randint(100, vocab_size, (batch, PROMPT), generator=generator).tolist()


def camelid(model: Path, new_tokens: int) -> Callable[[int], None]:
    import torch

    from camelid.engine.engine import Engine
    from camelid.engine.generation import Generation
    from camelid.lm.sampling import Sampling

    engine = Engine.load(model, dtype=torch.bfloat16, device="cpu")
    engine.tokenizer.stop_ids = frozenset()
    sampling = Sampling(max_new_tokens=new_tokens)

    def run(batch: int) -> None:
        asked = prompts(batch, engine.model.spec.vocab_size)
        generations = [Generation(ids, sampling, 0, new_tokens, engine.tokenizer) for ids in asked]
        for _ in engine.run(generations):
            pass
        assert all(len(generation.tokens) == new_tokens for generation in generations)

    return run


def transformers(model: Path, new_tokens: int) -> Callable[[int], None]:
    import torch
    from transformers import LlamaForCausalLM

    network = LlamaForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval()
    network.generation_config.eos_token_id = None
    network.generation_config.pad_token_id = 0

    def run(batch: int) -> None:
        ids = torch.tensor(prompts(batch, network.config.vocab_size))
        said = network.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False
        )
        assert said.shape[1] == PROMPT + new_tokens

    return run


CALLS = itertools.count()
CONTENDERS = {"camelid": camelid, "transformers": transformers}


def measure(contender: str, model: Path, new_tokens: int, threads: int) -> None:
    """New tokens a second at every batch size, as one JSON object on standard output."""
    import torch

    torch.set_num_threads(threads)
    run = CONTENDERS[contender](model, new_tokens)
    speeds = {}
    for batch in BATCHES:
        times = []
        for _ in range(1 + REPEATS):
            start = time.perf_counter()
            run(batch)
            times.append(time.perf_counter() - start)
        speeds[batch] = batch * new_tokens / statistics.median(times[1:])
    print(json.dumps(speeds))


def compare(model: Path, new_tokens: int, threads: int) -> list[dict[str, object]]:
    speeds = {}
    for contender in CONTENDERS:
        options = ["--contender", contender, "--model", str(model), "--new-tokens", str(new_tokens)]
        command = [sys.executable, __file__, *options, "--threads", str(threads)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        speeds[contender] = json.loads(done.stdout.splitlines()[-1])
    return [
        {
            "name": f"generate batch {batch}",
            "ours": round(speeds["camelid"][str(batch)], 1),
            "peer": round(speeds["transformers"][str(batch)], 1),
            "peer_name": "transformers, bfloat16",
            "unit": "new tokens/s",
            "ratio": round(speeds["camelid"][str(batch)] / speeds["transformers"][str(batch)], 2),
        }
        for batch in BATCHES
    ]


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
    arguments = parser.parse_args()
    new_tokens = arguments.new_tokens or (24 if arguments.quick else 64)
    if arguments.contender:
        measure(arguments.contender, arguments.model, new_tokens, arguments.threads)
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
