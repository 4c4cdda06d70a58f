"""The engine on one GPU: decoding against the memory's bandwidth, and many requests at once beside
transformers.

The model has TinyLlama's shape (1.1 billion parameters) and random weights, since speed does not depend on
them. The rows:

    bandwidth   GB/s of copying 1 GiB within the device, bytes read and written both counted
    decode      new tokens a second of one greedy sequence after 16 tokens, and the share of the bandwidth at
                which its weights are read; in bfloat16 and at 4 bits in groups of 64, steps as they are and
                compiled
    requests    new tokens a second, all in all, of 64 requests of 128 new tokens each, in bfloat16: after 256
                tokens each, and after 16 to 496 of as many lengths, which transformers pads on the left

Medians of --rounds; the contenders of the last rows take turns in one process. `--device cpu --shape 135m
--quick` tries the script where there is no GPU.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from decode import PROMPT, SHAPES, Camelid, ids

from camelid.engine.blocks import BLOCK_TOKENS
from camelid.engine.graphs import GraphDecoder
from camelid.formats.hugging_face.families import family_for
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.quant.packed import PackedLinear

REQUESTS, LENGTH, NEW = 64, 256, 128
COPIED = 2**30


def finished(device: torch.device) -> float:
    """The time when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median over `rounds`, after one that is not counted."""
    times = []
    for _ in range(rounds + 1):
        began = finished(device)
        work()
        times.append(finished(device) - began)
    return statistics.median(times[1:])


def bandwidth(device: torch.device, rounds: int) -> float:
    """Bytes a second, read and written."""
    source = torch.ones(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED / seconds(lambda: target.copy_(source), device, rounds)


def bytes_of_a_token(model: Transformer) -> int:
    """Bytes of the weights that one token needs: all but the embedding, unless the output shares it."""
    packed = [module for module in model.modules() if isinstance(module, PackedLinear)]
    # A scale and an offset in bfloat16 for each group.
    total = sum(module.packed_codes.nbytes + 4 * module.scales.numel() for module in packed)
    plain = dict(model.named_parameters())
    if model.lm_head is not None:
        plain.pop("embed_tokens.weight")
    return total + sum(parameter.nbytes for parameter in plain.values())


def camelid(shape: str, kind: str, device: torch.device, compiled: bool = False) -> Camelid:
    """Ours, its steps as they are recorded also where the device records none."""
    made = Camelid(shape, kind, None, str(device), compiled)
    if device.type == "cpu":
        tokens = REQUESTS * (LENGTH + NEW + BLOCK_TOKENS)
        made.engine.decoder = GraphDecoder(made.engine.model, torch.bfloat16, tokens, compiled=compiled)
    return made


def transformers_model(spec: ModelSpec, device: torch.device) -> torch.nn.Module:
    """A model of the same shape, with weights of its own."""
    from transformers import AutoConfig, AutoModelForCausalLM

    described = family_for(spec)
    config = AutoConfig.for_model(
        described.model_type, **described.write(spec), eos_token_id=None, pad_token_id=0
    )
    return AutoModelForCausalLM.from_config(config).to(device, torch.bfloat16).eval()


def decode_rows(
    shape: str, device: torch.device, limit: float, rounds: int, new_tokens: int
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for kind in ("bf16", "4 bits"):
        for compiled in (False, True):
            made = camelid(shape, kind, device, compiled)
            turn = iter(range(10**6))
            # What is measured is the new tokens: the prompt and the first step are taken off.
            taken = [
                seconds(lambda: made.generate([ids(PROMPT, made.vocab, next(turn))], count), device, rounds)  # noqa: B023
                for count in (1, 1 + new_tokens)
            ]
            speed = new_tokens / (taken[1] - taken[0])
            share = speed * bytes_of_a_token(made.engine.model) / limit
            name = f"decode {shape} {kind}{' compiled' if compiled else ''}"
            rows.append({"name": name, "tokens/s": round(speed, 1), "of the bandwidth": round(share, 3)})
    return rows


def requests_row(
    shape: str, device: torch.device, rounds: int, lengths: list[int], new_tokens: int
) -> dict[str, object]:
    made = camelid(shape, "bf16", device)
    peer = transformers_model(made.engine.model.spec, device)
    turn = iter(range(10**6))

    def prompts() -> list[list[int]]:
        return [ids(length, made.vocab, next(turn)) for length in lengths]

    @torch.inference_mode()
    def theirs() -> None:
        longest = max(lengths)
        asked = torch.tensor([[0] * (longest - len(row)) + row for row in prompts()], device=device)
        mask = torch.tensor([[0] * (longest - each) + [1] * each for each in lengths], device=device)
        said = peer.generate(input_ids=asked, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False)
        assert said.shape[1] == longest + new_tokens

    times: dict[str, list[float]] = {"ours": [], "transformers": []}
    for _ in range(rounds):
        times["ours"].append(seconds(lambda: made.generate(prompts(), new_tokens), device, 1))
        times["transformers"].append(seconds(theirs, device, 1))
    speeds = {name: len(lengths) * new_tokens / statistics.median(own) for name, own in times.items()}
    ratio = round(speeds["ours"] / speeds["transformers"], 2)
    return {
        "name": f"{len(lengths)} requests {shape} bf16, "
        f"{' to '.join(map(str, sorted({min(lengths), max(lengths)})))} tokens",
        "ratio": ratio,
        **{each: round(speed) for each, speed in speeds.items()},
    }


def mixed(requests: int) -> list[int]:
    """Lengths around `LENGTH`, no two alike, short and long ones in turns."""
    spread = [16 + (2 * LENGTH - 32) * index // (requests - 1) for index in range(requests)]
    return spread[::2] + spread[1::2][::-1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", choices=SHAPES, default="1.1b")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of a few tokens")
    options = parser.parse_args()
    device, rounds = torch.device(options.device), 1 if options.quick else options.rounds
    limit = bandwidth(device, rounds)
    print(json.dumps({"name": "bandwidth", "GB/s": round(limit / 1e9, 1)}), flush=True)
    for row in decode_rows(options.shape, device, limit, rounds, 8 if options.quick else NEW):
        print(json.dumps(row), flush=True)
    requests, new_tokens = (4, 8) if options.quick else (REQUESTS, NEW)
    for lengths in ([LENGTH] * requests, mixed(requests)):
        print(json.dumps(requests_row(options.shape, device, rounds, lengths, new_tokens)), flush=True)


if __name__ == "__main__":
    main()
