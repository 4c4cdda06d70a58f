"""`camelid serve` beside llama.cpp's server, SmolLM2-135M in 4 bits: python bench/serve.py --json

Each server is a process of its own; the load comes from this one over loopback, as streams of greedy
completions of --new tokens after prompts of about 60. The rows:

    tokens/s at N    all new tokens a second with N clients, each with one request after the other
    first at N       seconds to the first token, the median and the 95th percentile
    start            seconds from the command to the first answer (bar: 3)
    idle             CPU seconds a second of a server with nothing to do
    outside          share of the server's CPU seconds that its event loop takes at 16 clients (bar: 5 %)
    second turn      time to the first token of the second turn over the first's, of about 1,000 tokens
    byte-stable      prompts whose answer is the same bytes first, repeated, and among 16

--soak SECONDS adds mixed load at one and a half times the capacity, with clients that leave: every accepted
request must be answered, every refused one have status 429, and memory stay as it is (30 minutes: 1800). The
peer is llama-server with 16 slots, built from llama.cpp's source, if --llama-server names one or it is on the
path. Else it is llama-cpp-python's server, which answers one request at a time; name its interpreter with
--peer-python where llama_cpp is installed apart (pip install "llama-cpp-python[server]").
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
from decode_models import prepare
from serve_load import Answer, ask, clients, completion, mixed_load, texts_of

COUNTS = (1, 4, 16, 64)
SLOTS, SLOT_TOKENS = 16, 2048
Row = dict[str, object]


class Server:
    """A server's process, from its start until it is asked to end."""

    def __init__(self, name: str, words: list[str], port: int) -> None:
        self.name, self.port, began = name, port, time.perf_counter()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 -- as long as the process
        self.process = subprocess.Popen(words, stdout=self.log, stderr=self.log)
        while not self._answers():
            if self.process.poll() is not None:
                self.log.seek(0)
                raise SystemExit(f"{words[:4]} did not start: {self.log.read().decode()[-600:]}")
            time.sleep(0.02)
        self.start = time.perf_counter() - began
        self.of = psutil.Process(self.process.pid)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/models", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def cpu(self) -> tuple[float, float]:
        """CPU seconds of the whole process, and of its main thread, where the event loop runs."""
        times = self.of.cpu_times()
        main = next(each for each in self.of.threads() if each.id == self.process.pid)
        return times.user + times.system, main.user_time + main.system_time

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def throughput(server: Server, arguments: argparse.Namespace, bias: dict[str, float]) -> dict[str, float]:
    """Rows of speed by name."""
    found: dict[str, float] = {}
    asyncio.run(clients(server.port, texts_of(2, 45, 99), 2, 8, bias))
    for count in arguments.clients:
        texts = texts_of(max(arguments.requests, count), 45, count)
        total, main = server.cpu()
        seconds, answers = asyncio.run(clients(server.port, texts, count, arguments.new, bias))
        used, loop = (after - before for after, before in zip(server.cpu(), (total, main), strict=True))
        check(answers)
        firsts = sorted(each.first for each in answers)
        found[f"tokens/s at {count}"] = len(answers) * arguments.new / seconds
        found[f"first p50 at {count}"] = statistics.median(firsts)
        found[f"first p95 at {count}"] = firsts[int(0.95 * (len(firsts) - 1))]
        if count == 16 and server.name == "camelid":  # the main thread of others computes
            found["outside"] = loop / used
    return found


def check(answers: list[Answer]) -> None:
    wrong = [each for each in answers if each.status != 200 or not each.pieces]
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(answers)} failed: {wrong[0].status} {wrong[0].error}")


def second_turn(server: Server) -> float:
    """First token of a second turn over that of the first, both of one conversation."""
    text = texts_of(1, 680, 5)[0]

    def first(prompt: str) -> Answer:
        return asyncio.run(ask(server.port, "/v1/completions", completion(prompt, 16)))

    begin = first(text)
    more = first(f"{text}{begin.text}\nAnd then? ")
    check([begin, more])
    return more.first / begin.first


def stable(server: Server) -> float:
    """The share of prompts whose answers are the same bytes alone, again, and among 16."""
    texts = texts_of(16, 30, 7)

    async def together() -> list[Answer]:
        asked = [ask(server.port, "/v1/completions", completion(each, 24)) for each in texts]
        return [*await asyncio.gather(*asked)]

    alone = [asyncio.run(ask(server.port, "/v1/completions", completion(each, 24))) for each in texts]
    again, among = asyncio.run(together()), asyncio.run(together())
    check([*alone, *again, *among])
    rows = zip(alone, again, among, strict=True)
    return statistics.mean(len({each.text for each in row}) == 1 for row in rows)


def soak(server: Server, seconds: float, capacity: float) -> Row:
    """Mixed load at 1.5 times the capacity in requests a second; memory is compared after the first fifth."""
    memory = list[int]()

    def note() -> None:
        memory.append(server.of.memory_info().rss)

    found = asyncio.run(mixed_load(server.port, seconds, 1.5 * capacity, each_second=note))
    settled = memory[len(memory) // 5 :]
    growth = statistics.mean(settled[-10:]) / statistics.mean(settled[:10])
    fine = set(found) <= {"200", "429", "left"}
    return {"name": "soak", "seconds": seconds, "statuses": dict(found), "memory": growth, "fine": fine}


def measured(name: str, words: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    server = Server(name, words, arguments.port)
    bias = {str(token): -100.0 for token in arguments.ends}
    try:
        found: dict[str, Any] = {"start": server.start}
        before, _ = server.cpu()
        time.sleep(2)
        found["idle"] = (server.cpu()[0] - before) / 2
        found |= throughput(server, arguments, bias)
        found["second turn"], found["byte-stable"] = second_turn(server), stable(server)
        if arguments.soak and name == "camelid":
            rate = found["tokens/s at 16"] / 27  # the mean of its new tokens over all samples
            print(json.dumps(soak(server, arguments.soak, rate)), flush=True)
        return found
    finally:
        server.end()


def rows(ours: dict[str, float], peer: dict[str, float], peer_name: str) -> list[Row]:
    found = []
    for name, value in ours.items():
        other = peer.get(name)
        more = name.startswith(("tokens/s", "byte"))
        ratio = None if not other or not value else round(value / other if more else other / value, 2)
        unit = (
            "tokens/s" if name.startswith("tokens/s") else "s" if name[:5] in ("first", "start") else "share"
        )
        row = {"name": name, "ours": round(value, 4), "peer": other and round(other, 4), "ratio": ratio}
        found.append(row | {"peer_name": peer_name, "unit": unit})
    return found


def peer_of(arguments: argparse.Namespace, model: Path) -> tuple[str, list[str]]:
    """The name and the command of the peer."""
    port, threads = str(arguments.port), str(os.cpu_count())
    if arguments.llama_server:
        words = [arguments.llama_server, "--model", str(model), "--port", port, "--threads", threads]
        words += ["--parallel", str(SLOTS), "--ctx-size", str(SLOTS * SLOT_TOKENS)]
        return "llama-server", words
    words = [arguments.peer_python, "-m", "llama_cpp.server", "--model", str(model), "--port", port]
    words += ["--n_ctx", str(SLOT_TOKENS), "--n_threads", threads, "--verbose", "false"]
    return "llama-cpp-python", [*words, "--interrupt_requests", "false"]  # else one ends the one before


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "camelid-bench-decode")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has llama_cpp.server")
    parser.add_argument("--llama-server", default=shutil.which("llama-server"), help="llama.cpp's program")
    parser.add_argument("--only", choices=["camelid", "peer"], help="one of the two servers")
    parser.add_argument("--clients", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--requests", type=int, default=64, help="for each row, at least one for each client")
    parser.add_argument("--new", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds of mixed load")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.requests, arguments.new = 16, 16
    arguments.work.mkdir(parents=True, exist_ok=True)
    paths = prepare("135m", arguments.work, {"4 bits", "q4_0"})
    config = json.loads((paths["checkpoint"] / "config.json").read_text())
    ends = config.get("eos_token_id")
    arguments.ends = [*{0, 2, *(ends if isinstance(ends, list) else [ends])}]
    arguments.port = free_port()
    serve = [sys.executable, "-m", "camelid", "serve", str(paths["4 bits"]), "--port", str(arguments.port)]
    serve += ["--log", os.devnull, "--max-of-one", "256"]
    if arguments.soak:  # cache and queue are full within minutes, so that what grows later is a leak
        serve += ["--cache-tokens", "16384", "--max-requests", "64"]
    peer_name, peer = peer_of(arguments, paths["q4_0"])
    empty: dict[str, Any] = {}
    ours = empty if arguments.only == "peer" else measured("camelid", serve, arguments)
    theirs = empty if arguments.only == "camelid" else measured(peer_name, peer, arguments)
    for row in rows(ours or theirs, theirs if ours else empty, peer_name):
        print(json.dumps(row) if arguments.json else row)


if __name__ == "__main__":
    main()
