"""Training steps of a 33.7 M-parameter LLaMA, whole updates: ours beside transformers and LitGPT.

The peers compute in bfloat16, as is usual, and without --quick in float32 too, which some CPUs do faster;
ours takes the precision that `dtype: auto` takes on the machine.

A step is loss, backward pass, clipping at 1.0 and fused AdamW over 8 rows of 512 tokens. Every contender
lives in a process of its own, warms up (compiling included), and then they take turns, a few steps each, so
that what else the machine does hits all alike. Speed is the median step, memory the peak resident size of the
process. The rows `busy N` repeat this beside N processes that keep a core busy, as on a laptop in use; there,
speed is all tokens over all seconds, because single steps differ many times over.

A peer that fails, at its import or later, is named and left out; the others go on.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

ROWS, CONTEXT, VOCABULARY, WIDTH, LAYERS, HEADS, FEED_FORWARD = 8, 512, 8192, 512, 8, 8, 1376
WARM_UP = 2
BUSY = (1, 2)
"""Numbers of busy processes."""
SHAPE = "33.7M, 8 x 512"
PEERS = {
    "transformers-eager": "transformers, bf16 autocast",
    "transformers-compiled": "transformers, bf16 autocast, compiled",
    "litgpt-compiled": "LitGPT, bf16 mixed, compiled",
    "transformers-float32": "transformers, float32, compiled",
    "litgpt-float32": "LitGPT, float32, compiled",
}

IN_USE = ("ours", *(name for name in PEERS if not name.endswith("float32")))
"""Those that are also measured beside busy processes."""

Step = Callable[[], None]


def ours(compiled: bool = True) -> Step:
    """The path of `camelid pretrain`: its loop, loss, optimiser, compiled blocks and memory settings."""
    from camelid.model.spec import ModelSpec
    from camelid.train.speed import timed_updates

    spec = ModelSpec.llama(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_layers=LAYERS,
        num_heads=HEADS,
        feed_forward_width=FEED_FORWARD,
        context_length=CONTEXT,
    )
    updates = timed_updates(spec, CONTEXT, ROWS, compiled=compiled)
    return lambda: next(updates)


def transformers(compiled: bool, mixed: bool = True) -> Step:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=FEED_FORWARD,
            max_position_embeddings=CONTEXT,
            use_cache=False,
        )
    )
    if compiled:
        model.forward = torch.compile(model.forward)
    return peer_step(
        model, lambda tokens: model(input_ids=tokens, labels=tokens, use_cache=False).loss, mixed
    )


def litgpt(compiled: bool, mixed: bool = True) -> Step:
    import torch
    from litgpt import GPT, Config
    from litgpt.utils import chunked_cross_entropy

    config = Config(
        name="llama",
        block_size=CONTEXT,
        vocab_size=VOCABULARY,
        padded_vocab_size=VOCABULARY,
        n_layer=LAYERS,
        n_head=HEADS,
        n_embd=WIDTH,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        intermediate_size=FEED_FORWARD,
    )
    model = GPT(config)
    forward = torch.compile(model) if compiled else model

    def loss(tokens: torch.Tensor) -> torch.Tensor:
        return chunked_cross_entropy(forward(tokens)[:, :-1], tokens[:, 1:], chunk_size=0)

    return peer_step(model, loss, mixed)


def peer_step(model, loss, mixed: bool) -> Step:
    """A peer's whole update; `loss` is given a batch of random tokens."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, weight_decay=0.1, betas=(0.9, 0.95), fused=True
    )
    tokens = torch.randint(0, VOCABULARY, (ROWS, CONTEXT), device=device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=mixed):
            value = loss(tokens)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        value.item()

    return step


CONTENDERS: dict[str, Callable[[], Step]] = {
    "ours": ours,
    "ours-eager": lambda: ours(compiled=False),
    "transformers-eager": lambda: transformers(False),
    "transformers-compiled": lambda: transformers(True),
    "litgpt-compiled": lambda: litgpt(True),
    "transformers-float32": lambda: transformers(True, mixed=False),
    "litgpt-float32": lambda: litgpt(True, mixed=False),
}


def serve(name: str) -> None:
    """A contender's process: for every number n on standard input n steps; answers their seconds and its
    memory."""
    import resource

    if name.startswith("ours"):
        import camelid  # noqa: F401  # first, as in `camelid pretrain`: it sets up OpenMP before torch loads it

    import torch

    torch.manual_seed(0)
    step = CONTENDERS[name]()
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            began = time.perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if torch.cuda.is_available():
            megabytes = torch.cuda.max_memory_allocated() / 2**20
        print(json.dumps({"seconds": seconds, "megabytes": megabytes}), flush=True)


@dataclass
class Contender:
    """The other end of such a process."""

    name: str
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, name: str, python: str) -> "Contender":
        command = [python, __file__, "--contender", name]
        return cls(name, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

    def run(self, steps: int) -> dict | None:
        """The seconds of each step and the memory; None if the process has ended, which is reported."""
        answer = ""
        # A process that failed at its import has closed the pipe by now, or will not answer.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{steps}\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        if answer:
            return json.loads(answer)
        print(f"{self.name} is left out: it ended with the message above", file=sys.stderr, flush=True)
        return None

    def stop(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def missing(names: list[str], python: str) -> list[str]:
    """The packages that the contenders need and the interpreter does not have."""
    packages = {name.split("-")[0] for name in names} - {"ours"}
    probe = "import importlib.util, sys; print(*(p for p in sys.argv[1:] if not importlib.util.find_spec(p)))"
    done = subprocess.run([python, "-c", probe, *packages], capture_output=True, text=True, check=True)
    return done.stdout.split()


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keeps this many cores busy, with processes of usual priority."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@dataclass
class Measured:
    """The seconds of every step of each contender, by the number of busy processes, and its memory."""

    seconds: dict[int, dict[str, list[float]]]
    megabytes: dict[str, float]

    def speed(self, name: str) -> float:
        """Tokens a second in the median step."""
        return ROWS * CONTEXT / statistics.median(self.seconds[0][name])

    def total_speed(self, name: str, processes: int) -> float:
        """All tokens over all seconds."""
        seconds = self.seconds[processes][name]
        return ROWS * CONTEXT * len(seconds) / sum(seconds)


def measure(names: list[str], python: str, turns: int, steps: int) -> Measured:
    """Runs the contenders in turns, first alone, then beside busy processes; those that fail are left out."""
    contenders = [
        Contender.start(name, sys.executable if name.startswith("ours") else python) for name in names
    ]
    measured = Measured({processes: {} for processes in (0, *BUSY)}, {})
    for contender in list(contenders):
        warm = contender.run(WARM_UP)
        if warm is None:
            contenders.remove(contender)
        else:
            text = f"{contender.name}: first step {warm['seconds'][0]:.1f} s"
            print(text, file=sys.stderr, flush=True)
    for processes, seconds in measured.seconds.items():
        with busy(processes):
            for _ in range(1 if processes else turns):
                for contender in list(contenders):
                    if processes and contender.name not in IN_USE:
                        continue
                    answer = contender.run(steps)
                    if answer is None:
                        contenders.remove(contender)
                    else:
                        seconds.setdefault(contender.name, []).extend(answer["seconds"])
                        measured.megabytes.setdefault(contender.name, answer["megabytes"])
    for contender in contenders:
        contender.stop()
    return measured


def comparisons(measured: Measured) -> Iterator[dict[str, object]]:
    """One row for each peer and quantity, and for each number of busy processes."""
    alone, megabytes = measured.seconds[0], measured.megabytes
    if "ours" not in alone:
        raise SystemExit("ours failed; its message stands above")
    speed, memory = measured.speed("ours"), megabytes["ours"]
    beside = {**PEERS, "ours-eager": "ours without a compiler"}
    for name in (name for name in beside if name in alone):
        label = "33.7M, compiled beside eager" if name == "ours-eager" else SHAPE
        theirs, held = measured.speed(name), megabytes[name]
        yield row(f"train {label}", speed, theirs, beside[name], "tokens/s", speed / theirs)
        yield row(f"memory {label}", memory, held, beside[name], "MB", held / memory)
    for processes in BUSY:
        if "ours" not in measured.seconds[processes]:
            continue
        label = f"busy {processes}, {SHAPE}"
        kept = measured.total_speed("ours", processes)
        for name in (name for name in PEERS if name in measured.seconds[processes]):
            theirs = measured.total_speed(name, processes)
            yield row(label, kept, theirs, PEERS[name], "tokens/s", kept / theirs)
        before = measured.total_speed("ours", 0)
        yield row(f"{label}, share kept", kept, before, "ours alone", "tokens/s", kept / before)


def row(name: str, mine: float, theirs: float, peer: str, unit: str, ratio: float) -> dict[str, object]:
    return {
        "name": name,
        "ours": round(mine),
        "peer": round(theirs),
        "peer_name": peer,
        "unit": unit,
        "ratio": round(ratio, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a line, nothing else")
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        serve(arguments.contender)
        return
    names = list(IN_USE) if arguments.quick else list(CONTENDERS)
    for package in missing(names, arguments.peer_python):
        print(f"{package} is left out: pip install 'camelid[peers]'", file=sys.stderr)
        names = [name for name in names if not name.startswith(package)]
    turns, steps = (2, 2) if arguments.quick else (3, 3)
    for comparison in comparisons(measure(names, arguments.peer_python, turns, steps)):
        text = "{name}: {ours} {unit}, {peer_name} {peer} {unit}: {ratio} times as good"
        print(json.dumps(comparison) if arguments.json else text.format(**comparison), flush=True)


if __name__ == "__main__":
    main()
