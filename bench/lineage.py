"""A training step of every family: beside our LLaMA at equal parameters, and beside transformers' own
implementation.

Shapes of about 10 M parameters (`--large`: 34 M), 8 x 512 tokens, bfloat16 autocast for transformers, and for
ours the precision that it takes by itself; T5 reads 8 x 512 and writes 8 x 114 tokens, as its span corruption
does. Every contender runs in a process of its own; the first two steps are not counted, the median of the
others is reported.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

from train import CONTEXT, ROWS, VOCABULARY, Step, peer_step

TARGETS = 114
SIZES = {False: (256, 6, 8), True: (512, 8, 8)}
FAMILIES = ("llama", "gpt2", "gpt3", "palm", "qwen3", "mistral", "t5", "t5-v1.1")


def our_spec(family: str, large: bool):
    """The family's shape with as many weights in its layers as LLaMA's: the feed-forward's width makes up the
    rest."""
    from dataclasses import replace

    from camelid.recipes.model_shape import ModelShape

    width, layers, heads = SIZES[large]
    shape = ModelShape(hidden_size=width, num_layers=layers, num_heads=heads, context_length=CONTEXT)
    wanted = shape.spec(VOCABULARY)
    if family == "llama":
        return wanted
    counts = layers // 2 if family.startswith("t5") else layers
    updates = {"architecture": family, "num_layers": counts, "tie_embeddings": True}
    spec = shape.model_copy(update=updates).spec(VOCABULARY)
    if family.startswith("t5"):
        spec = replace(spec, output_scale=width**-0.5)
    missing = (wanted.matmul_parameters() - spec.matmul_parameters()) / (counts + spec.encoder_layers)
    per_width = width * (3 if spec.feed_forward.gated else 2)
    inner = round((spec.feed_forward.width + missing / per_width) / 32) * 32
    return replace(spec, feed_forward=replace(spec.feed_forward, width=inner), dropout=0.0)


def ours(family: str, large: bool) -> Step:
    from camelid.train.speed import timed_updates

    updates = timed_updates(our_spec(family, large), CONTEXT, ROWS, compiled=True)
    return lambda: next(updates)


def transformers(family: str, large: bool) -> Step:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from camelid.formats.hugging_face.families import family_for

    spec = our_spec(family, large)
    described = family_for(spec)
    config = AutoConfig.for_model(described.model_type, **described.write(spec), decoder_start_token_id=0)
    seq2seq = bool(spec.encoder_layers)
    model = (AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM).from_config(config)
    labels = torch.randint(
        0, VOCABULARY, (ROWS, TARGETS), device="cuda" if torch.cuda.is_available() else "cpu"
    )

    def loss(tokens: torch.Tensor) -> torch.Tensor:
        return model(input_ids=tokens, labels=labels if seq2seq else tokens, use_cache=False).loss

    return peer_step(model, loss, mixed=True)


CONTENDERS = {"camelid": ours, "transformers": transformers}


def measure(contender: str, family: str, large: bool, repeats: int) -> None:
    step = CONTENDERS[contender](family, large)
    times = []
    for _ in range(2 + repeats):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    tokens = ROWS * (CONTEXT + TARGETS if family.startswith("t5") else CONTEXT)
    print(json.dumps(tokens / statistics.median(times[2:])))


def speed(contender: str, family: str, large: bool, repeats: int) -> float:
    options = ["--contender", contender, "--families", family, "--repeats", str(repeats)]
    command = [sys.executable, __file__, *options, *(["--large"] if large else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="3 steps instead of 7")
    parser.add_argument("--large", action="store_true", help="34 M parameters instead of 10 M")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--repeats", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    repeats = arguments.repeats or (3 if arguments.quick else 7)
    if arguments.contender:
        measure(arguments.contender, arguments.families[0], arguments.large, repeats)
        return
    llama = speed("camelid", "llama", arguments.large, repeats)
    for family in arguments.families:
        own = llama if family == "llama" else speed("camelid", family, arguments.large, repeats)
        peers = [("our LLaMA", llama)]
        if family != "gpt3":  # transformers has no such architecture
            peers.append(
                ("transformers, bf16 autocast", speed("transformers", family, arguments.large, repeats))
            )
        for name, peer in peers:
            row = {
                "name": f"train {family}",
                "ours": round(own, 1),
                "peer": round(peer, 1),
                "peer_name": name,
                "unit": "tokens/s",
                "ratio": round(own / peer, 2),
            }
            text = "{name}: {ours} {unit}, {peer_name} {peer}: {ratio} times"
            print(json.dumps(row) if arguments.json else text.format(**row), flush=True)


if __name__ == "__main__":
    main()
