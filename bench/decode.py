"""Decoding, prefill and many requests at once: `camelid.engine.engine.Engine` beside llama.cpp (llama-cpp-python, built natively).

Two shapes: 1.1 billion parameters (TinyLlama's shape, random weights, since speed does not depend on them) and SmolLM2-135M
(its instruct model from the GGUF beside the repository, else random too). Ours has 4-bit weights in groups of 64, embedding in
bfloat16 and, of SmolLM2, the output projection in 8 bits; llama.cpp is asked with Q4_0 and Q4_K (where rows allow), output in Q8_0
as our exporter writes it, and the faster one counts. The rows:

    decode      new tokens a second of one greedy sequence after a prompt of 16 tokens
    prefill     tokens a second of a prompt of 512
    bf16        decode, weights in bfloat16
    concurrent  new tokens a second, all in all, of 16 requests of 256 tokens and 128 new ones each
    samples     40 samples of 64 tokens after one prompt of 1,000, in the time of one (ours alone; the peer is the bar, 6)

Every contender runs in a process of its own; medians of --rounds, the contenders of a row taking turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "weights"
GGUF = SHARED / "smollm2-135m-instruct-q4_1" / "SmolLM2-135M-Instruct.Q4_1.gguf"
SHAPES = {"1.1b": "tinyllama-1.1b", "135m": "smollm-135m"}
PROMPT, LONG, REQUESTS = 16, 512, 16
TYPES = {"q4_0": 2, "q4_k": 12, "bf16": 30}


def ids(count: int, vocab: int, seed: int = 0) -> list[int]:
    import random

    draw = random.Random(seed)
    return [draw.randrange(10, vocab) for _ in range(count)]


def random_model(shape: str, bits: int) -> object:
    """A model of random weights; at 4 bits its layers are packed, and its output projection to 8 bits."""
    import torch

    from camelid.model.linears import plain_linears
    from camelid.model.presets import PRESETS
    from camelid.model.surgery import replace
    from camelid.model.transformer import Transformer
    from camelid.quant.packed import PackedLinear

    def packed(outer: int, inner: int, bits: int, group: int) -> PackedLinear:
        packed_codes = torch.randint(-(2**31), 2**31 - 1, (inner * bits // 32, outer), dtype=torch.int32)
        scales = torch.full((outer, inner // group), 0.005 if bits == 4 else 0.0003, dtype=torch.bfloat16)
        zeros = torch.full(scales.shape, 2 ** (bits - 1), dtype=torch.uint8)
        return PackedLinear(packed_codes, scales, zeros, bits, inner)

    spec = PRESETS[SHAPES[shape]]()
    torch.manual_seed(0)
    with torch.device("meta"):
        model = Transformer(spec)
    if bits == 4:
        for path, linear in list(plain_linears(model).items()):
            if path.startswith("layers."):
                replace(model, path, packed(*linear.weight.shape, 4, 64))
        model.lm_head = packed(spec.vocab_size, spec.hidden_size, 8, spec.hidden_size)
    model = model.bfloat16()
    for name, parameter in list(model.named_parameters()):
        parent, _, leaf = name.rpartition(".")
        fresh = torch.ones(parameter.shape) if parameter.ndim == 1 else torch.randn(parameter.shape) * 0.02
        setattr(model.get_submodule(parent), leaf, torch.nn.Parameter(fresh.bfloat16(), requires_grad=False))
    return model


class Camelid:
    """The engine of a random model, which never stops by itself."""

    def __init__(
        self, shape: str, kind: str, file: Path | None, device: str = "cpu", compiled: bool = False
    ) -> None:
        import torch

        from camelid.engine.engine import Engine
        from camelid.text.tokenizer import train_tokenizer

        model = random_model(shape, 16 if kind == "bf16" else 4).to(device)
        self.vocab = model.spec.vocab_size
        tokenizer = train_tokenizer(["a word of text"] * 8, 270)
        tokenizer.stop_ids = frozenset()
        self.engine = Engine(model, tokenizer, dtype=torch.bfloat16, max_batch=64, compiled=compiled)
        self.engine.tokenizer.decode = lambda *_, **__: ""
        self.engine.decoder  # noqa: B018 - made before any clock runs

    def generate(self, prompts: list[list[int]], new_tokens: int, temperature: float = 0.0) -> None:
        from camelid.engine.generation import Generation
        from camelid.lm.sampling import Sampling

        sampling = Sampling(max_new_tokens=new_tokens, temperature=temperature)
        requests = [
            Generation(prompt, sampling, sample, new_tokens, self.engine.tokenizer)
            for sample, prompt in enumerate(prompts)
        ]
        for _ in self.engine.run(requests):
            pass
        assert all(len(request.tokens) == new_tokens for request in requests)


class LlamaCpp:
    """llama.cpp's C interface: one batch of all sequences a step, greedy."""

    def __init__(self, shape: str, kind: str, file: Path | None) -> None:
        import llama_cpp

        self.api = llama_cpp
        llama_cpp.llama_log_set(QUIET, None)
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            str(file).encode(), llama_cpp.llama_model_default_params()
        )
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = REQUESTS * 512, 2048, 512
        settings.n_seq_max = REQUESTS
        settings.n_threads = settings.n_threads_batch = 2
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(2048, 0, 1)

    def decode(self, rows: list[tuple[int, int, int, bool]]) -> list[int]:
        import numpy

        self.batch.n_tokens = len(rows)
        for index, (token, position, sequence, wanted) in enumerate(rows):
            self.batch.token[index], self.batch.pos[index] = token, position
            self.batch.n_seq_id[index], self.batch.seq_id[index][0] = 1, sequence
            self.batch.logits[index] = wanted
        if self.api.llama_decode(self.context, self.batch):
            raise SystemExit("llama_decode failed")
        said = []
        for index, row in enumerate(rows):
            if row[3]:
                logits = self.api.llama_get_logits_ith(self.context, index)
                said.append(int(numpy.ctypeslib.as_array(logits, (self.vocab,)).argmax()))
        return said

    def generate(self, prompts: list[list[int]], new_tokens: int, temperature: float = 0.0) -> None:
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        rows = [
            (token, position, sequence, position == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        said: list[int] = []
        for begin in range(0, len(rows), 2048):
            said += self.decode(rows[begin : begin + 2048])
        for step in range(new_tokens - 1):
            said = self.decode(
                [(token, len(prompts[row]) + step, row, True) for row, token in enumerate(said)]
            )


def quiet(level: int, text: bytes, user: object) -> None:
    pass


QUIET: object = None


def measure(contender: str, shape: str, kind: str, file: Path | None, quick: bool) -> None:
    """Answers the name of a measurement on each line of standard input with seconds."""
    global QUIET
    import torch

    torch.set_num_threads(2)
    if contender == "llama.cpp":
        import llama_cpp

        QUIET = llama_cpp.llama_log_callback(quiet)
    made = {"camelid": Camelid, "llama.cpp": LlamaCpp}[contender](shape, kind, file)
    new = 32 if quick else 128
    turn = iter(range(10**6))

    def asked(count: int, length: int) -> list[list[int]]:
        # Fresh prompts every time, of which no cache holds anything.
        return [ids(length, made.vocab, next(turn)) for _ in range(count)]

    work: dict[str, Callable[[], None]] = {
        "decode": lambda: made.generate(asked(1, PROMPT), new),
        "prefill": lambda: made.generate(asked(1, LONG), 1),
        "concurrent": lambda: made.generate(asked(REQUESTS, 256), new),
        "one sample": lambda: made.generate(asked(1, 1000), 64, 1.0),
        "samples": lambda: made.generate(asked(1, 1000) * 40, 64, 1.0),
    }
    made.generate(asked(1, PROMPT), 8)
    print("ready", flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        work[line.strip()]()
        print(time.perf_counter() - began, flush=True)


class Contender:
    """A contender in its own process, asked for one measurement after the other."""

    def __init__(self, name: str, shape: str, kind: str, file: Path | None, quick: bool) -> None:
        words = [sys.executable, __file__, "--contender", name, "--shape", shape, "--kind", kind]
        words += ["--file", str(file)] if file else []
        words += ["--quick"] if quick else []
        self.name = f"{name} {kind}"
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        while self.process.stdout.readline().strip() != "ready":
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} did not start")

    def seconds(self, what: str) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(what, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def write_gguf(shape: str, kind: str, file: Path) -> None:
    """A GGUF file of random weights: blocks of `kind`, a tied or untied output in Q8_0."""
    import gguf
    import numpy

    from camelid.model.presets import PRESETS

    spec = PRESETS[SHAPES[shape]]()
    draw = numpy.random.default_rng(0)
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(spec.context_length)
    writer.add_embedding_length(spec.hidden_size)
    writer.add_block_count(spec.num_layers)
    writer.add_feed_forward_length(spec.feed_forward.width)
    writer.add_head_count(spec.num_heads)
    writer.add_head_count_kv(spec.num_kv_heads)
    writer.add_layer_norm_rms_eps(spec.norm.eps)
    writer.add_rope_dimension_count(spec.head_dim)
    writer.add_vocab_size(spec.vocab_size)
    writer.add_tokenizer_model("none")

    def add(name: str, outer: int, inner: int, kind: str) -> None:
        # Q4_K's blocks of 256 do not divide every row; llama.cpp falls back to Q5_0 there.
        kind = "q5_0" if kind == "q4_k" and inner % 256 else kind
        if kind == "bf16":
            data = (draw.standard_normal((outer, inner), numpy.float32) * 0.02).view(numpy.uint32) >> 16
            writer.add_tensor(
                name, data.astype(numpy.uint16).view(numpy.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16
            )
            return
        of = gguf.GGMLQuantizationType[kind.upper()]
        size, each = gguf.GGML_QUANT_SIZES[of]
        blocks = draw.integers(0, 256, (outer * inner // size, each), numpy.uint8)
        scale = numpy.array([0.005 if kind != "q8_0" else 0.0003], numpy.float16).view(numpy.uint8)
        blocks[:, :2] = scale
        if kind == "q4_k":
            blocks[:, :2] = blocks[:, 2:4] = (numpy.array([0.0001], numpy.float16)).view(numpy.uint8)
        writer.add_tensor(name, blocks.reshape(outer, -1), raw_dtype=of)

    width, hidden, dim = spec.hidden_size, spec.feed_forward.width, spec.head_dim
    head = "bf16" if kind == "bf16" else "q8_0"
    add("token_embd.weight", spec.vocab_size, width, head)
    writer.add_tensor("output_norm.weight", numpy.ones(width, numpy.float32))
    if not spec.tie_embeddings:
        add("output.weight", spec.vocab_size, width, head)
    for layer in range(spec.num_layers):
        name = f"blk.{layer}"
        writer.add_tensor(f"{name}.attn_norm.weight", numpy.ones(width, numpy.float32))
        writer.add_tensor(f"{name}.ffn_norm.weight", numpy.ones(width, numpy.float32))
        add(f"{name}.attn_q.weight", spec.num_heads * dim, width, kind)
        add(f"{name}.attn_k.weight", spec.num_kv_heads * dim, width, kind)
        add(f"{name}.attn_v.weight", spec.num_kv_heads * dim, width, kind)
        add(f"{name}.attn_output.weight", width, spec.num_heads * dim, kind)
        add(f"{name}.ffn_gate.weight", hidden, width, kind)
        add(f"{name}.ffn_up.weight", hidden, width, kind)
        add(f"{name}.ffn_down.weight", width, hidden, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def turns(contenders: list[Contender], what: str, rounds: int) -> dict[str, float]:
    """Median seconds of each contender."""
    times: dict[str, list[float]] = {each.name: [] for each in contenders}
    for _ in range(rounds):
        for each in contenders:
            times[each.name].append(each.seconds(what))
    return {name: statistics.median(own) for name, own in times.items()}


def compared(name: str, tokens: int, seconds: dict[str, float]) -> dict[str, object]:
    """Our row beside the fastest peer's."""
    speeds = {each: tokens / taken for each, taken in seconds.items()}
    ours = next(speed for each, speed in speeds.items() if each.startswith("camelid"))
    peer, best = max(
        ((e, s) for e, s in speeds.items() if not e.startswith("camelid")), key=lambda pair: pair[1]
    )
    return {
        "name": name,
        "ours": round(ours, 1),
        "peer": round(best, 1),
        "peer_name": peer,
        "unit": "tokens/s",
        "ratio": round(ours / best, 2),
    }


def rows(shape: str, only: list[str], rounds: int, quick: bool, scratch: Path) -> list[dict[str, object]]:
    new = 32 if quick else 128
    found: list[dict[str, object]] = []
    kinds = ["q4_0", "q4_k"]
    four = {kind: scratch / f"{shape}-{kind}.gguf" for kind in [*kinds, "bf16"]}
    if {"decode", "prefill", "concurrent", "samples"} & set(only):
        ours = Contender("camelid", shape, "4 bits", None, quick)
        peers = []
        for kind in kinds:
            write_gguf(shape, kind, four[kind])
            peers.append(Contender("llama.cpp", shape, kind, four[kind], quick))
        for what, tokens in (("decode", new), ("prefill", LONG), ("concurrent", REQUESTS * new)):
            if what in only:
                count = rounds if what != "concurrent" else max(1, rounds // 3)
                found.append(compared(f"{what} {shape} 4 bits", tokens, turns([ours, *peers], what, count)))
        if "samples" in only:
            times = {what: turns([ours], what, 2)[ours.name] for what in ("one sample", "samples")}
            ratio = times["samples"] / times["one sample"]
            found.append(
                {
                    "name": f"samples {shape} 4 bits",
                    "ours": round(ratio, 2),
                    "peer": 6,
                    "peer_name": "the bar",
                    "unit": "times one sample",
                    "ratio": round(6 / ratio, 2),
                }
            )
        for each in [ours, *peers]:
            each.close()
    if "bf16" in only:
        write_gguf(shape, "bf16", four["bf16"])
        both = [
            Contender("camelid", shape, "bf16", None, quick),
            Contender("llama.cpp", shape, "bf16", four["bf16"], quick),
        ]
        found.append(compared(f"decode {shape} bf16", new, turns(both, "decode", rounds)))
        for each in both:
            each.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ["decode", "prefill", "concurrent", "samples", "bf16"]
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="32 new tokens instead of 128, 3 rounds")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rows", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        measure(arguments.contender, arguments.shape, arguments.kind, arguments.file, arguments.quick)
        return
    rounds = 3 if arguments.quick else arguments.rounds
    for shape in arguments.shapes:
        with tempfile.TemporaryDirectory() as scratch:
            for row in rows(shape, arguments.rows, rounds, arguments.quick, Path(scratch)):
                text = "{name}: {ours} {unit}, {peer_name} {peer}: {ratio}"
                print(json.dumps(row) if arguments.json else text.format(**row), flush=True)


if __name__ == "__main__":
    main()
