"""The engine on one GPU: decoding against the memory's bandwidth, and many requests at once beside transformers.

The model has TinyLlama's shape (1.1 billion parameters) and random weights, since speed does not depend on them. The rows:

    bandwidth   GB/s of copying 1 GiB within the device, bytes read and written both counted
    decode      new tokens a second of one greedy sequence after 16 tokens, and the share of the bandwidth at which its
                weights are read; in bfloat16 and at 4 bits in groups of 64, steps as they are and compiled
    requests    new tokens a second, all in all, of 64 requests of 256 tokens and 128 new ones each, in bfloat16

Medians of --rounds; the contenders of the last row take turns in one process. `--device cpu --shape 135m --quick` tries the
script where there is no GPU.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from decode import PROMPT, SHAPES, ids, random_model

from camelid.infer.engine import Engine
from camelid.infer.generation import Generation
from camelid.infer.graphs import GraphDecoder
from camelid.lm import Sampling
from camelid.model.transformer import Transformer
from camelid.quant.packed import PackedLinear
from camelid.text.tokenizer import train_tokenizer

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
    total = sum(module.words.nbytes + 4 * module.scales.numel() for module in packed)
    plain = dict(model.named_parameters())
    if model.lm_head is not None:
        plain.pop("embed_tokens.weight")
    return total + sum(parameter.nbytes for parameter in plain.values())


def engine_of(shape: str, bits: int, device: torch.device, compiled: bool) -> Engine:
    """An engine whose steps are recorded, of random weights; it never stops by itself."""
    model = random_model(shape, bits)
    assert isinstance(model, Transformer)
    tokenizer = train_tokenizer(["a word of text"] * 8, 270)
    tokenizer.stop_ids = frozenset()
    tokens = REQUESTS * (LENGTH + NEW + 16)
    engine = Engine(model.to(device), tokenizer, dtype=torch.bfloat16, max_batch=REQUESTS)
    engine.decoder = GraphDecoder(engine.model, torch.bfloat16, tokens, compiled=compiled)
    engine.tokenizer.decode = lambda *_, **__: ""
    return engine


def generate(engine: Engine, prompts: list[list[int]], new_tokens: int) -> None:
    sampling = Sampling(max_new_tokens=new_tokens)
    requests = [Generation(prompt, sampling, 0, new_tokens, engine.tokenizer) for prompt in prompts]
    for _ in engine.run(requests):
        pass
    assert all(len(request.tokens) == new_tokens for request in requests)


def transformers_model(engine: Engine, device: torch.device) -> torch.nn.Module:
    """A model of the same shape, with weights of its own."""
    from transformers import LlamaConfig, LlamaForCausalLM

    spec = engine.model.spec
    config = LlamaConfig(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        intermediate_size=spec.feed_forward.width,
        num_hidden_layers=spec.num_layers,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_kv_heads,
        max_position_embeddings=spec.context_length,
        tie_word_embeddings=spec.tie_embeddings,
        eos_token_id=None,
        pad_token_id=0,
        dtype=torch.bfloat16,
    )
    return LlamaForCausalLM(config).to(device, torch.bfloat16).eval()


def decode_rows(
    shape: str, device: torch.device, limit: float, rounds: int, new_tokens: int
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for bits in (16, 4):
        for compiled in (False, True):
            engine = engine_of(shape, bits, device, compiled)
            turn = iter(range(10**6))
            vocab = engine.model.spec.vocab_size
            # What is measured is the new tokens: the prompt and the first step are taken off.
            taken = [
                seconds(lambda: generate(engine, [ids(PROMPT, vocab, next(turn))], count), device, rounds)  # noqa: B023
                for count in (1, 1 + new_tokens)
            ]
            speed = new_tokens / (taken[1] - taken[0])
            share = speed * bytes_of_a_token(engine.model) / limit
            name = f"decode {shape} {'bf16' if bits == 16 else '4 bits'}{' compiled' if compiled else ''}"
            rows.append({"name": name, "tokens/s": round(speed, 1), "of the bandwidth": round(share, 3)})
    return rows


def requests_row(
    shape: str, device: torch.device, rounds: int, requests: int, new_tokens: int
) -> dict[str, object]:
    engine = engine_of(shape, 16, device, compiled=False)
    peer = transformers_model(engine, device)
    turn = iter(range(10**6))

    def prompts() -> list[list[int]]:
        return [ids(LENGTH, engine.model.spec.vocab_size, next(turn)) for _ in range(requests)]

    @torch.inference_mode()
    def theirs() -> None:
        asked = torch.tensor(prompts(), device=device)
        said = peer.generate(
            input_ids=asked, attention_mask=torch.ones_like(asked), max_new_tokens=new_tokens, do_sample=False
        )
        assert said.shape[1] == LENGTH + new_tokens

    times: dict[str, list[float]] = {"ours": [], "transformers": []}
    for _ in range(rounds):
        times["ours"].append(seconds(lambda: generate(engine, prompts(), new_tokens), device, 1))
        times["transformers"].append(seconds(theirs, device, 1))
    speeds = {name: requests * new_tokens / statistics.median(own) for name, own in times.items()}
    ratio = round(speeds["ours"] / speeds["transformers"], 2)
    return {
        "name": f"{requests} requests {shape} bf16",
        "ratio": ratio,
        **{each: round(speed) for each, speed in speeds.items()},
    }


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
    few = (4, 8) if options.quick else (REQUESTS, NEW)
    print(json.dumps(requests_row(options.shape, device, rounds, *few)), flush=True)


if __name__ == "__main__":
    main()
